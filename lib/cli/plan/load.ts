// What that traffic takes of Redis and of the instances, by the unit costs that were measured.
import { largest } from './largest.ts'
import { describeApp, traffic } from './traffic.ts'
import type { App, Command, Traffic } from './traffic.ts'
import type { CommandKind } from './redis-bytes.ts'

/** us of Redis for each kind of command, a further member of a call, a message, and a second of its own work. */
export type RedisCpu = Partial<Record<CommandKind, number>> & {
  ping: number
  publish: number
  publishWithHistory: number
  member: number
  message: number
  redis: number
}
/** us of an instance. */
export interface InstanceCpu {
  instance: number
  connection: number
  published: number
  received: number
  delivery: number
  coming: number
}
/** Bytes of Redis. */
export interface RedisMemory {
  linkBytes: number
  subscriptionBytes: number
  channelBytes: number
  entryBytes: number
  memberBytes: number
}

/** us per second of all shards together. */
export function redisCpu ({ commands, messages, shards }: Pick<Traffic, 'commands' | 'messages' | 'shards'>, costs: RedisCpu): number {
  // What a call costs includes its first member.
  const cpuOf = ({ kind, rate, members }: Command) => rate * ((costs[kind] ?? costs.ping) + Math.max(0, members - 1) * costs.member)
  return shards * costs.redis + messages * costs.message + commands.reduce((sum, command) => sum + cpuOf(command), 0)
}

/** us of CPU per second of all instances together. */
export function instanceCpu (given: Partial<App>, { messages, deliveries, comings }: Traffic, costs: InstanceCpu): number {
  const { instances, connections, publications } = describeApp(given)
  return instances * costs.instance + connections * costs.connection + publications * costs.published +
    messages * costs.received + deliveries * costs.delivery + comings * costs.coming
}

/** Bytes that Redis holds. */
export function redisMemory (given: Partial<App>, { subscriptions, links }: Traffic, costs: RedisMemory): number {
  const { channels, connections, perConnection, payload, history, historySize, presence } = describeApp(given)
  const kept = history ? channels * (costs.channelBytes + historySize * (payload + costs.entryBytes)) : 0
  const present = presence ? connections * perConnection * costs.memberBytes : 0
  return links * costs.linkBytes + subscriptions * costs.subscriptionBytes + kept + present
}

/**
 * How many shards keep each one's core under `share`. undefined: no number of them does, because one channel alone is
 * too much for a core. Channels are taken to be evenly spread. Pings and the like go to every shard.
 */
export function shardsNeeded (given: Partial<App>, costs: RedisCpu, share: number): number | undefined {
  const allowed = share * 1e6
  const single = traffic({ ...given, shards: 1 })
  if (redisCpu(single, costs) <= allowed) return 1
  if (hottestChannel(given, costs) > allowed) return undefined
  for (let shards = 2; shards <= MAX_SHARDS; shards++) {
    if (redisCpu(traffic({ ...given, shards }), costs) / shards <= allowed) return shards
  }
  return undefined
}

/** Memorystore for Valkey has no more. */
export const MAX_SHARDS = 250

/** us per second of one channel: it is on one shard, however many there are. */
export function hottestChannel (given: Partial<App>, costs: RedisCpu): number {
  const { channels, publications, history } = describeApp(given)
  const { messages } = traffic(given)
  return (publications * costs[history ? 'publishWithHistory' : 'publish'] + messages * costs.message) / channels
}

/** The largest whole number of something that one core carries, found by halves. `appAt` gives the app with so many. */
export function carried (appAt: (count: number) => Partial<App>, costs: RedisCpu, share: number, most = 1 << 24): number {
  const fits = (count: number) => redisCpu(traffic(appAt(count)), costs) <= share * 1e6
  return fits(1) ? largest(most, fits) : 0
}
