import { createClient, createCluster, RESP_TYPES } from 'redis'
import type { RedisClientOptions, RedisClusterOptions } from 'redis'
import type { RedisClientLike, RedisSource } from '../../options/redis-source.ts'
import { settledWithin } from '../../util/timeout.ts'

export type RedisClient = ReturnType<typeof createClient>
export type RedisCluster = ReturnType<typeof createCluster>

/** Milliseconds between two pings. After 10 idle minutes Cloud Run's VPC egress would drop the connection. */
const PING_INTERVAL = 1_000
/** Milliseconds of silence after which node-redis drops a socket; in practice one that is still connecting. */
const SOCKET_TIMEOUT = 4_000
/** Pings without an answer after which an established connection counts as dead. */
const MAX_UNANSWERED = SOCKET_TIMEOUT / PING_INTERVAL
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
function linkOptions (options: RedisClientOptions = {}): RedisClientOptions {
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

export function newClient (source: RedisSource & { kind: 'standalone' | 'client' }): RedisClient {
  if (source.kind === 'standalone') return createClient(linkOptions(source.options)) as RedisClient
  return duplicateClient(source.client)
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

/** Gives a connection up and opens it again. Every failure is an 'error' event, too. */
export function reconnect (client: RedisClient): void {
  client.destroy()
  client.connect().catch(() => {})
}

export interface RedisLinkListener {
  linkReady (link: RedisLink): void
  linkLost (link: RedisLink): void
}

/**
 * Calls `silent` when pings stay unanswered. node-redis' own socket timeout restarts with every command written, so it
 * never fires while commands are sent. Counts rounds instead of time: a process that was paused must not blame Redis.
 */
export function watchAnswers (client: RedisClient, silent: () => void): void {
  let unanswered = 0
  const answered = () => { unanswered = 0 }
  client.on('ready', answered)
  client.on('ping-interval', answered)
  const rounds = setInterval(() => {
    if (!client.isOpen) return clearInterval(rounds)
    if (client.isReady && ++unanswered > MAX_UNANSWERED) silent()
  }, PING_INTERVAL).unref()
}

/** One Redis connection. It reconnects by itself, and tells its listener when it is up and when it is down. */
export class RedisLink {
  readonly client: RedisClient
  /** Why the connection is not ready. */
  reason = 'not connected yet'
  #ready = false
  #closed = false

  constructor (client: RedisClient) {
    this.client = client
  }

  get ready (): boolean { return this.#ready }

  open (listener: RedisLinkListener): void {
    // When the client emits 'ready' it has resubscribed all its channels.
    this.client.on('ready', () => {
      this.#ready = true
      listener.linkReady(this)
    })
    this.client.on('error', (error: unknown) => {
      if (!this.client.isReady) this.#lost(error, listener)
    })
    // A client that is closed while it connects would keep that connection forever.
    this.client.on('connect', () => {
      if (this.#closed) this.client.destroy()
    })
    // Every failure is also an 'error' event, and the client tries again. The promise rejects only if closed first.
    this.client.connect().catch(() => {})
    watchAnswers(this.client, () => {
      if (this.#closed) return // closing destroys it in a moment
      reconnect(this.client)
      this.#lost(new Error('Redis does not answer'), listener)
    })
  }

  #lost (error: unknown, listener: RedisLinkListener): void {
    this.reason = describeError(error)
    const was = this.#ready
    this.#ready = false
    if (was) listener.linkLost(this)
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#ready = false
    await closeWithin(this.client)
  }
}

/** Closes a client after its pending commands, or after `CLOSE_TIMEOUT`. */
export async function closeWithin (client: { isOpen: boolean, close (): unknown, destroy (): void }): Promise<void> {
  if (client.isOpen) await settledWithin(Promise.resolve(client.close()), CLOSE_TIMEOUT)
  client.destroy()
}

/** Describes an error. Never empty for an Error. */
export function describeError (error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // An AggregateError, from a host with several addresses, has no message of its own.
  const [first] = error instanceof AggregateError ? error.errors : []
  return error.message || (first instanceof Error ? first.message : '') || error.name
}
