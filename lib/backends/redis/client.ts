import { createClient, createCluster, RESP_TYPES } from 'redis'
import type { RedisClientOptions, RedisClusterOptions } from 'redis'
import type { RedisClientLike, RedisSource } from '../../options/redis-source.ts'
import { settledWithin } from '../../util/timeout.ts'

export type RedisClient = ReturnType<typeof createClient>
export type RedisCluster = ReturnType<typeof createCluster>

/** Milliseconds between two pings. After 10 idle minutes Cloud Run's VPC egress would drop the connection. */
export const PING_INTERVAL = 1_000
/** Milliseconds of silence after which node-redis drops a socket; in practice one that is still connecting. */
export const SOCKET_TIMEOUT = 4_000
/** Milliseconds that connecting may take. */
const CONNECT_TIMEOUT = 2_000
/** Commands waiting for a reply. Bounds memory; a Redis that answers never lets it get so far. */
const MAX_QUEUE = 100_000
/**
 * Replies have the form that our code reads, whatever the app configured for its client. A Map may have any key, an
 * object may not. node-redis' timeout is off: it costs an AbortSignal per command, and commands have our own deadline.
 */
const COMMAND_OPTIONS = { typeMapping: { [RESP_TYPES.MAP]: Map }, timeout: 0 }
/** Milliseconds that closing may take before the connection is destroyed. */
const CLOSE_TIMEOUT = 500

/**
 * Adds the settings that each of our Redis connections needs, whatever the app configured. The reconnect strategy is a
 * must: node-redis' default gives up for good after a socket timeout.
 */
export function linkOptions (options: RedisClientOptions = {}): RedisClientOptions {
  const socket = { ...options.socket, connectTimeout: CONNECT_TIMEOUT, socketTimeout: SOCKET_TIMEOUT, reconnectStrategy: reconnectDelay }
  return {
    ...options,
    commandOptions: COMMAND_OPTIONS,
    RESP: 3,
    pingInterval: PING_INTERVAL,
    disableOfflineQueue: true,
    commandsQueueMaxLength: MAX_QUEUE,
    maintNotifications: 'disabled',
    socket: socket as NonNullable<RedisClientOptions['socket']>
  }
}

/** Returns the milliseconds until the next attempt to connect: 50, doubling to 1,000, plus jitter. Never gives up. */
export function reconnectDelay (retries: number): number {
  return Math.min(50 * 2 ** Math.min(retries, 5), 1_000) + Math.floor(Math.random() * 100)
}

/** Creates a client for the same server as `client`, with its credentials and TLS settings. */
export function duplicateClient (client: RedisClientLike): RedisClient {
  return client.duplicate(linkOptions((client as { options?: RedisClientOptions }).options)) as RedisClient
}

/** Creates a cluster client. Aborting `ended` destroys all its connections. */
export function newCluster (source: RedisSource & { kind: 'cluster' | 'cluster-client' }, ended: AbortSignal): RedisCluster {
  if (source.kind === 'cluster') return createCluster({ ...source.options, ...clusterOptions(source.options, ended) }) as RedisCluster
  // node-redis makes the options of a client public, but not those of a cluster.
  const { _options: options } = source.client as { _options?: RedisClusterOptions }
  return source.client.duplicate(clusterOptions(options, ended)) as RedisCluster
}

function clusterOptions (options: RedisClusterOptions | undefined, ended: AbortSignal) {
  const defaults = linkOptions(options?.defaults)
  const reconnectStrategy = (retries: number) => ended.aborted ? false : reconnectDelay(retries)
  // A cluster that is closed while it connects would keep that connection forever. Sockets of Node.js take a `signal`,
  // which the types lack.
  Object.assign(defaults.socket!, { signal: ended, reconnectStrategy })
  return { commandOptions: COMMAND_OPTIONS, RESP: 3 as const, defaults: defaults as NonNullable<RedisClusterOptions['defaults']> }
}

/** Closes a client after its pending commands, or after `CLOSE_TIMEOUT`. */
export async function closeWithin (client: { isOpen: boolean, close (): unknown, destroy (): void }): Promise<void> {
  if (client.isOpen) await settledWithin(Promise.resolve(client.close()), CLOSE_TIMEOUT)
  client.destroy()
}

/** Describes an error. Never empty for an Error. */
export function describeError (error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // The text of our own errors is for everybody.
  if (error.cause instanceof Error && String((error as { code?: unknown }).code).startsWith('FST_CRWS_REDIS_')) return error.cause.message
  // An AggregateError, from a host with several addresses, has no message of its own.
  const [first] = error instanceof AggregateError ? error.errors : []
  return error.message || (first instanceof Error ? first.message : '') || error.name
}
