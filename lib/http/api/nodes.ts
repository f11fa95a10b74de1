import { hostname } from 'node:os'
import type { Hub } from '../hub/hub.ts'
import { compileGlob } from '../util/glob.ts'
import type { Connections } from './connections.ts'
import type { InstanceRegistry } from './instance-registry.ts'
import { areCounts, sumsOf } from './survey.ts'
import type { Count, Question, Survey } from './survey.ts'

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

const nodes: Question<null, NodeInfo> = { name: 'api.info', isAnswer: value => typeof (value as NodeInfo | null)?.uid === 'string' }
const channels: Question<string, Count[]> = { name: 'api.channels', isAnswer: areCounts }

/** What the HTTP API asks every instance. Instances without that API answer too. */
export class NodeSurvey {
  readonly #survey: Survey

  constructor (survey: Survey, connections: Connections, hub: Hub, registry: InstanceRegistry) {
    this.#survey = survey
    survey.answer(nodes, () => nodeOf(registry, connections, hub))
    survey.answer(channels, pattern => {
      const isWanted = compileGlob(pattern) ?? (() => false)
      return Array.from(hub.sizes()).filter(([channel]) => isWanted(channel))
    })
  }

  /** Lists the instances that answer within a second: those that have crashed do not. */
  async nodes (): Promise<NodeInfo[]> {
    return Array.from((await this.#survey.ask(nodes, null)).of.values())
  }

  /** Counts the subscribers of the channels that match the pattern, on all instances. */
  async channels (pattern: string): Promise<Map<string, number>> {
    return sumsOf(await this.#survey.ask(channels, pattern))
  }
}

function nodeOf (registry: InstanceRegistry, connections: Connections, hub: Hub): NodeInfo {
  const { instance, connections: clients, channels, uptime, revision } = registry.own
  const users = new Set(Array.from(connections, ({ user }) => user))
  const counts = { num_clients: clients, num_users: users.size, num_channels: channels, num_subs: hub.subscriptions }
  return { uid: instance, name: hostname(), version: revision, ...counts, uptime }
}
