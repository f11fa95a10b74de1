import type { Broker } from '../model/broker.ts'
import { MemoryBroker } from './memory/broker.ts'
import { MemoryPresence } from './memory/presence.ts'
import { MemorySessions } from './memory/sessions.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import type { Presence } from '../model/presence.ts'
import { createRateLimitStore } from './redis/rate-limit-store.ts'
import type { RateLimitStore } from './redis/rate-limit-store.ts'
import { RedisBroker } from './redis/broker.ts'
import { ClusterCommands } from './redis/cluster-commands.ts'
import { ClusterSubscriber } from './redis/cluster-subscriber.ts'
import { StandaloneCommands } from './redis/commands.ts'
import { RedisKeys } from './redis/keys.ts'
import { RedisPresence } from './redis/presence.ts'
import { RedisSessions } from './redis/sessions.ts'
import type { RedisSource } from '../options/redis-source.ts'
import { StandaloneSubscriber } from './redis/subscriber.ts'
import type { SessionStore } from '../model/sessions.ts'

/** Broker and stores: shared by all instances over Redis, or in the memory of a single instance. */
export interface Backend {
  readonly broker: Broker
  readonly presence: Presence
  readonly sessions: SessionStore
  /** undefined: @fastify/rate-limit counts in memory, with its own store. */
  readonly rateLimitStore: RateLimitStore | undefined
}

export function createBackend ({ redis, prefix }: ResolvedOptions): Backend {
  if (redis === undefined) {
    return { broker: new MemoryBroker(), presence: new MemoryPresence(), sessions: new MemorySessions(), rateLimitStore: undefined }
  }
  const keys = new RedisKeys(prefix)
  const { commands, subscriber } = createLinks(redis)
  return {
    broker: new RedisBroker(commands, subscriber, keys),
    presence: new RedisPresence(commands, keys),
    sessions: new RedisSessions(commands, keys),
    rateLimitStore: createRateLimitStore(commands, keys)
  }
}

function createLinks (source: RedisSource) {
  if (source.kind === 'cluster' || source.kind === 'cluster-client') {
    const commands = new ClusterCommands(source)
    return { commands, subscriber: new ClusterSubscriber(commands) }
  }
  return { commands: new StandaloneCommands(source), subscriber: new StandaloneSubscriber(source) }
}
