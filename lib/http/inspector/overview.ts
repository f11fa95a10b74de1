import type { Core } from '../../core/core.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import { publicationsOf } from './publications.ts'
import type { Publications } from './publications.ts'
import { redisError } from './redis-error.ts'
import type { RedisError } from './redis-error.ts'
import { channelOrders, connectionOrder, MAX_CONNECTIONS, report, reports } from './report.ts'
import type { ConnectionRow, Report } from './report.ts'
import type { View } from './view.ts'

/** Channels that are shown at most. */
const MAX_CHANNELS = 100

/** What the page shows of all instances. */
export interface Overview {
  /** The instance that has answered the page. */
  readonly instance: string
  /** Why the others could not be asked; undefined if they were. */
  readonly alone?: RedisError
  /** Instances that gave no answer. */
  readonly missing: readonly string[]
  readonly instances: ReadonlyArray<Report['info']>
  /** Connections that match, or, where channels are shown, undefined: a channel may be on several instances. */
  readonly matching?: number
  readonly connections: ReadonlyArray<ConnectionRow & { readonly instance: string }>
  readonly channels: ReadonlyArray<{ readonly channel: string, readonly clients: number, readonly instances: number }>
  /** True if there are more channels than are shown; the counts of some may then be too low. */
  readonly more: boolean
  /** Of the one channel that is shown. */
  readonly publications?: Publications
}

/** Asks every instance for its part of the view. While Redis is down this instance answers alone. */
export async function overview (core: Core, namespaces: ChannelNamespaces, view: View): Promise<Overview> {
  const { instance } = core.registry.own
  const [{ of, missing, alone }, publications] = await Promise.all([
    ask(core, view),
    view.show === 'channel' ? publicationsOf(core.publisher, namespaces, view.name!) : undefined
  ])
  const answers = Array.from(of)
  return {
    instance,
    ...(alone !== undefined && { alone }),
    missing,
    instances: answers.map(([instance, { info }]) => ({ ...info, instance })).sort(byAge),
    ...(view.show !== 'channels' && { matching: answers.reduce((sum, [, { matching }]) => sum + matching, 0) }),
    connections: view.show === 'channels' ? [] : connectionsOf(answers, view),
    ...channelsOf(of.values(), view),
    ...(publications !== undefined && { publications })
  }
}

async function ask (core: Core, view: View): Promise<{ of: ReadonlyMap<string, Report>, missing: readonly string[], alone?: RedisError }> {
  try {
    return await core.survey.ask(reports, view)
  } catch (error) {
    const alone = redisError(error)
    const own = report(core, view)
    return { of: new Map([[own.info.instance, own]]), missing: [], alone }
  }
}

/** The oldest first. */
function byAge (a: Report['info'], b: Report['info']): number {
  return b.uptime - a.uptime || (a.instance < b.instance ? -1 : 1)
}

function connectionsOf (answers: ReadonlyArray<[instance: string, Report]>, view: View): Overview['connections'] {
  return answers.flatMap(([instance, { connections }]) => connections.map(row => ({ ...row, instance })))
    .sort(connectionOrder(view)).slice(0, MAX_CONNECTIONS)
}

function channelsOf (answers: Iterable<Report>, { order }: View): Pick<Overview, 'channels' | 'more'> {
  const clientsOf = new Map<string, { clients: number, instances: number }>()
  let cut = false
  for (const { channels, matching, connections } of answers) {
    if (connections.length === 0 && channels.length < matching) cut = true
    for (const [channel, clients] of channels) {
      const known = clientsOf.get(channel)
      clientsOf.set(channel, { clients: clients + (known?.clients ?? 0), instances: 1 + (known?.instances ?? 0) })
    }
  }
  const sorted = Array.from(clientsOf, ([channel, { clients }]) => [channel, clients] as const).sort(channelOrders[order === 'name' ? 'name' : 'clients'])
  return {
    channels: sorted.slice(0, MAX_CHANNELS).map(([channel]) => ({ channel, ...clientsOf.get(channel)! })),
    more: cut || sorted.length > MAX_CHANNELS
  }
}
