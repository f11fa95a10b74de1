import type { Broker } from '../model/broker.ts'
import { MemoryBroker } from './memory/broker.ts'
import { MemoryOccupancy, SharedOccupancy } from './memory/occupancy.ts'
import { MemoryPresence } from './memory/presence.ts'
import { MemorySessions } from './memory/sessions.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import type { Occupancy, OccupancyListener, OccupancySettings } from '../model/occupancy.ts'
import type { Presence } from '../model/presence.ts'
import { createRateLimitStore } from './redis/rate-limit-store.ts'
import type { RateLimitStore } from './redis/rate-limit-store.ts'
import { RedisBroker } from './redis/broker.ts'
import { ClusterCommands } from './redis/cluster-commands.ts'
import { ClusterSubscriber } from './redis/cluster-subscriber.ts'
import { StandaloneCommands } from './redis/commands.ts'
import { StandaloneEndpoint } from './redis/endpoint.ts'
import { NoSubscriber } from './redis/no-subscriber.ts'
import { RedisKeys } from './redis/keys.ts'
import { withCredentials } from './redis/login.ts'
import { RedisOccupancy } from './redis/occupancy.ts'
import { RedisPresence } from './redis/presence.ts'
import { SentinelEndpoint } from './redis/sentinel.ts'
import { RedisSessions } from './redis/sessions.ts'
import type { RedisSource } from '../options/redis-source.ts'
import { StandaloneSubscriber } from './redis/subscriber.ts'
import type { SessionStore } from '../model/sessions.ts'

/** Broker and stores: shared by all instances over Redis, or in the memory of a single instance. */
export interface Backend {
  readonly kind: 'memory' | 'redis'
  readonly broker: Broker
  readonly presence: Presence
  readonly sessions: SessionStore
  /** undefined: @fastify/rate-limit counts in memory, with its own store. */
  readonly rateLimitStore: RateLimitStore | undefined
  /** Called once for each kind that the app wants to hear of. */
  occupancy (settings: OccupancySettings, listener: OccupancyListener): Occupancy
}

/** @param listens False: it publishes and reads, and never subscribes to a channel. It needs no connection for that. */
export function createBackend ({ redis, keyPrefix }: Pick<ResolvedOptions, 'redis' | 'keyPrefix'>, listens = true): Backend {
  if (redis === undefined) {
    const [broker, presence, sessions] = [new MemoryBroker(), new MemoryPresence(), new MemorySessions()]
    const shared = new SharedOccupancy()
    const occupancy: Backend['occupancy'] = (settings, listener) => new MemoryOccupancy(shared, settings, listener)
    return { kind: 'memory', broker, presence, sessions, rateLimitStore: undefined, occupancy }
  }
  if (redis.kind === 'memory') return { kind: 'memory', ...redis.join(), rateLimitStore: undefined }
  const keys = new RedisKeys(keyPrefix)
  const { commands, subscriber } = createLinks(withCredentials(redis), keys, listens)
  return {
    kind: 'redis',
    broker: new RedisBroker(commands, subscriber, keys),
    presence: new RedisPresence(commands, keys),
    sessions: new RedisSessions(commands, keys),
    rateLimitStore: createRateLimitStore(commands, keys),
    occupancy: (settings, listener) => new RedisOccupancy(commands, keys, settings, listener)
  }
}

function createLinks (source: RedisSource, keys: RedisKeys, listens: boolean) {
  if (source.kind === 'cluster' || source.kind === 'cluster-client') {
    const commands = new ClusterCommands(source, keys)
    return { commands, subscriber: listens ? new ClusterSubscriber(commands) : new NoSubscriber() }
  }
  const endpoint = source.kind === 'sentinel' ? new SentinelEndpoint(source.options) : new StandaloneEndpoint(source)
  // Both leave the server together, or publications would go to one server and be awaited from another.
  const unusable = (reason: string) => {
    commands.giveUp(reason)
    subscriber.giveUp(reason)
  }
  const commands = new StandaloneCommands(endpoint, keys, unusable)
  const subscriber = listens ? new StandaloneSubscriber(endpoint, keys, unusable) : new NoSubscriber()
  return { commands, subscriber }
}
