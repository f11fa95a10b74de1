import { createClient, createCluster, RESP_TYPES } from 'redis'
import type { RedisClientOptions, RedisClusterOptions } from 'redis'
import type { RedisClientLike, RedisSource } from '../../options/redis-source.ts'
import { settledWithin } from '../../util/timeout.ts'

export type RedisClient = ReturnType<typeof createClient>
export type RedisCluster = ReturnType<typeof createCluster>

/** ms between two pings. Also far below the 10 minutes after which Cloud Run's VPC egress cuts an idle connection. */
const PING_INTERVAL = 1_000
/**
 * ms of silence after which a link that is being set up counts as dead; and pings without an answer until one that is
 * there does.
 */
const SOCKET_TIMEOUT = 4_000
const MAX_UNANSWERED = SOCKET_TIMEOUT / PING_INTERVAL
const CONNECT_TIMEOUT = 2_000
/** Commands that may wait for their answer; a bound for memory, out of reach for a Redis that answers. */
const MAX_QUEUE = 100_000
/**
 * Replies in the form that our code reads, not in the one that the host may have chosen for its own. A Map may have
 * any key, an object not. No timeout of node-redis', which is an AbortSignal for every command: commands have a
 * deadline of ours, and a link that takes none is cut.
 */
const COMMAND_OPTIONS = { typeMapping: { [RESP_TYPES.MAP]: Map }, timeout: 0 }
/** ms that closing may take before the link is cut. */
const CLOSE_TIMEOUT = 500

/**
 * What every link of ours needs, whatever the host configured. The strategy of our own is not a matter of taste:
 * node-redis' default one gives up for good after a socket timeout.
 */
function linkOptions (options: RedisClientOptions = {}): RedisClientOptions {
  const socket = { ...options.socket, connectTimeout: CONNECT_TIMEOUT, socketTimeout: SOCKET_TIMEOUT, reconnectStrategy: reconnectDelay }
  return { ...options, commandOptions: COMMAND_OPTIONS, RESP: 3, pingInterval: PING_INTERVAL, disableOfflineQueue: true, commandsQueueMaxLength: MAX_QUEUE, maintNotifications: 'disabled', socket: socket as NonNullable<RedisClientOptions['socket']> }
}

/** 50 ms, doubling up to 1 s, with jitter, for ever. */
export function reconnectDelay (retries: number): number {
  return Math.min(50 * 2 ** Math.min(retries, 5), 1_000) + Math.floor(Math.random() * 100)
}

export function newClient (source: RedisSource & { kind: 'standalone' | 'client' }): RedisClient {
  if (source.kind === 'standalone') return createClient(linkOptions(source.options)) as RedisClient
  return duplicateClient(source.client)
}

/** A new client to the same server as `client`, with its credentials and TLS settings. */
export function duplicateClient (client: RedisClientLike): RedisClient {
  return client.duplicate(linkOptions((client as { options?: RedisClientOptions }).options)) as RedisClient
}

/** Its links are cut when `ended` is aborted. */
export function newCluster (source: RedisSource & { kind: 'cluster' | 'cluster-client' }, ended: AbortSignal): RedisCluster {
  if (source.kind === 'cluster') return createCluster({ ...source.options, ...clusterOptions(source.options, ended) }) as RedisCluster
  // node-redis shows the options of a client, but not those of a cluster.
  const { _options: options } = source.client as { _options?: RedisClusterOptions }
  return source.client.duplicate(clusterOptions(options, ended)) as RedisCluster
}

function clusterOptions (options: RedisClusterOptions | undefined, ended: AbortSignal) {
  const defaults = linkOptions(options?.defaults)
  // node-redis goes on with what is under way when it is closed, and would keep those links for ever. Node.js'
  // sockets know `signal`, its types do not.
  const reconnectStrategy = (retries: number) => ended.aborted ? false : reconnectDelay(retries)
  Object.assign(defaults.socket!, { signal: ended, reconnectStrategy })
  return { commandOptions: COMMAND_OPTIONS, RESP: 3 as const, defaults: defaults as NonNullable<RedisClusterOptions['defaults']> }
}

export interface RedisLinkListener {
  linkReady (link: RedisLink): void
  linkLost (link: RedisLink): void
}

/**
 * Calls `silent` when pings stay unanswered. node-redis' own socket timeout begins anew with every command that is
 * written: while there is something to send, it never ends. Counted in rounds, so that a process that stood still
 * does not take that for silence of Redis.
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

/** One connection of ours to one Redis server: it comes back by itself, and says when it is there and when not. */
export class RedisLink {
  readonly client: RedisClient
  /** Why it is not ready. */
  reason = 'not connected yet'
  #ready = false
  #closed = false

  constructor (client: RedisClient) {
    this.client = client
  }

  get ready (): boolean { return this.#ready }

  open (listener: RedisLinkListener): void {
    // The client is 'ready' when it has subscribed again to all its channels.
    this.client.on('ready', () => {
      this.#ready = true
      listener.linkReady(this)
    })
    this.client.on('error', (error: unknown) => {
      if (!this.client.isReady) this.#lost(error, listener)
    })
    // node-redis goes on with an attempt to connect that was under way when it was closed, and would keep that link
    // for ever.
    this.client.on('connect', () => {
      if (this.#closed) this.client.destroy()
    })
    // Every failure is an 'error' event too, and the client goes on trying; this promise only rejects when it is
    // closed first.
    this.client.connect().catch(() => {})
    watchAnswers(this.client, () => {
      this.client.destroy()
      this.#lost(new Error('Redis does not answer'), listener)
      if (!this.#closed) this.client.connect().catch(() => {})
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

/** Lets pending commands end, but not for ever. */
export async function closeWithin (client: { isOpen: boolean, close (): unknown, destroy (): void }): Promise<void> {
  if (client.isOpen) await settledWithin(Promise.resolve(client.close()), CLOSE_TIMEOUT)
  client.destroy()
}

export function describeError (error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // A connection refused at several addresses has no message of its own.
  const [first] = error instanceof AggregateError ? error.errors : []
  return error.message || (first instanceof Error ? first.message : '') || error.name
}
