import { hostname } from 'node:os'
import type { Core } from '../../core/core.ts'
import { areCounts, sumsOf } from '../../core/survey.ts'
import type { Count, Question, Survey } from '../../core/survey.ts'
import { compileGlob } from '../../util/glob.ts'

/** Channels that one call lists at most. */
export const MAX_LISTED = 10_000

/** One instance, as Centrifugo's server API describes a node. */
export interface NodeInfo {
  readonly uid: string
  readonly name: string
  readonly version: string
  readonly num_clients: number
  readonly num_users: number
  readonly num_channels: number
  readonly num_subs: number
  /** Seconds since it started. */
  readonly uptime: number
}

/** What all instances are asked: `addApi` sets what answers. */
const nodes: Question<null, NodeInfo> = { name: 'api.info', isAnswer: value => typeof (value as NodeInfo | null)?.uid === 'string' }
const channels: Question<string, Count[]> = { name: 'api.channels', isAnswer: areCounts }

/** Lists the instances that answer within a second: those that have crashed do not. */
export async function listNodes (survey: Survey): Promise<NodeInfo[]> {
  return Array.from((await survey.ask(nodes, null)).of.values())
}

/**
 * Counts the subscribers of the channels that match the pattern, on all instances. If there are more than `MAX_LISTED`,
 * the result has more than that, but not all.
 */
export async function countChannels (survey: Survey, pattern: string): Promise<Map<string, number>> {
  return sumsOf(await survey.ask(channels, pattern))
}

/** Describes this instance. */
export function nodeOf ({ registry, connections, hub }: Core): NodeInfo {
  const { instance, connections: clients, channels, uptime, revision } = registry.own
  const users = new Set(Array.from(connections, ({ user }) => user))
  const counts = { num_clients: clients, num_users: users.size, num_channels: channels, num_subs: hub.subscriptions }
  return { uid: instance, name: hostname(), version: revision, ...counts, uptime }
}

/**
 * Counts the subscribers of this instance in the channels that match the pattern: one more than are listed at most, by
 * which the instance that asked knows that there are too many.
 */
export function channelsOf ({ hub }: Core, pattern: string): Count[] {
  const isWanted = compileGlob(pattern) ?? (() => false)
  return Array.from(hub.sizes()).filter(([channel]) => isWanted(channel)).slice(0, MAX_LISTED + 1)
}
