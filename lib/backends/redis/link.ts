import { closeWithin, describeError, PING_INTERVAL, reconnectDelay, SOCKET_TIMEOUT } from './client.ts'
import type { RedisClient } from './client.ts'
import type { Endpoint } from './endpoint.ts'

/** Pings without an answer after which an established connection counts as dead. */
const MAX_UNANSWERED = SOCKET_TIMEOUT / PING_INTERVAL
/** Milliseconds between two looks at the role of the server, which a failover may change under an open connection. */
const ROLE_CHECK = 5_000

export interface RedisLinkListener {
  /** Prepares a new connection before the link is ready. A rejection gives the connection up and tells the reason. */
  prepare? (client: RedisClient): Promise<void>
  linkReady (link: RedisLink): void
  linkLost (link: RedisLink): void
  /** Another attempt to connect has failed: `reason` may have changed. */
  attemptFailed? (link: RedisLink): void
  /** The server is of no use any more, though the connection is open. `giveUp` leaves it. */
  unusable? (reason: string): void
}

/** The reason until the first attempt to connect has failed. */
export const NOT_CONNECTED_YET = 'not connected yet'

/** Gives a connection up and opens it again. Every failure is an 'error' event, too. */
export function reconnect (client: RedisClient): void {
  client.destroy()
  client.connect().catch(() => {})
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

/**
 * One Redis connection. It reconnects by itself, and tells its listener when it is up and when it is down. node-redis
 * reconnects a connection that breaks. A connection that is of no use, though it is open, is given up for another one.
 */
export class RedisLink {
  /** Why the link is not ready. */
  reason = NOT_CONNECTED_YET
  readonly #endpoint: Endpoint
  #listener: RedisLinkListener | undefined
  #client: RedisClient | undefined
  #ready = false
  #closed = false
  /** Connections given up since the link was last ready. */
  #givenUp = 0
  /** True from giving a connection up until the next one is opened. */
  #between = false
  #checking: NodeJS.Timeout | undefined

  constructor (endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  get ready (): boolean { return this.#ready }

  /** undefined until the first connection is opened. */
  get client (): RedisClient | undefined { return this.#client }

  open (listener: RedisLinkListener): void {
    this.#listener = listener
    if (listener.unusable !== undefined) this.#checking = setInterval(() => this.#checkRole(), ROLE_CHECK).unref()
    this.#openNext()
  }

  /** Gives the connection up, and opens another one after a delay. */
  giveUp (error: unknown): void {
    if (this.#closed || this.#between || this.#reconnecting) return
    this.#between = true
    this.#client?.destroy()
    this.#lost(error)
    setTimeout(() => this.#openNext(), reconnectDelay(this.#givenUp++)).unref()
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#ready = false
    clearInterval(this.#checking)
    if (this.#client !== undefined) await closeWithin(this.#client)
  }

  /** True while node-redis reconnects a connection that broke. */
  get #reconnecting (): boolean { return this.#client !== undefined && this.#client.isOpen && !this.#client.isReady }

  /** A client whose address is known connects at once: in this turn. */
  #openNext (): void {
    if (this.#closed) return
    const next = this.#endpoint.newClient()
    if (!(next instanceof Promise)) return this.#connect(next)
    this.#between = true
    next.then(client => this.#closed || this.#connect(client), (error: unknown) => {
      this.#between = false
      this.giveUp(error)
    })
  }

  #connect (client: RedisClient): void {
    this.#client = client
    this.#between = false
    client.on('ready', () => this.#connected(client))
    client.on('error', (error: unknown) => {
      if (client !== this.#client || client.isReady) return
      this.#lost(error)
      if (!client.isOpen) this.giveUp(error) // its endpoint looks the address up for each connection
    })
    // A client that is closed while it connects would keep that connection forever.
    client.on('connect', () => {
      if (this.#closed) client.destroy()
    })
    // Every failure is also an 'error' event. The promise rejects only if the client does not try again.
    client.connect().catch(() => {})
    watchAnswers(client, () => this.giveUp(new Error('Redis does not answer'))) // closing destroys it in a moment
  }

  /** node-redis has connected the client and resubscribed its channels. The pings notice a server that freezes now. */
  #connected (client: RedisClient): void {
    if (this.#endpoint.objection === undefined && this.#listener?.prepare === undefined) return this.#becomeReady(client)
    this.#prepare(client).then(() => this.#becomeReady(client), (error: unknown) => {
      if (client === this.#client && client.isReady) this.giveUp(error)
    })
  }

  async #prepare (client: RedisClient): Promise<void> {
    const objection = await this.#endpoint.objection?.(client)
    if (objection !== undefined) throw new Error(objection)
    await this.#listener?.prepare?.(client)
  }

  #becomeReady (client: RedisClient): void {
    if (client !== this.#client || !client.isReady || this.#closed) return // it broke meanwhile
    this.#ready = true
    this.#givenUp = 0
    this.#listener?.linkReady(this)
  }

  #checkRole (): void {
    const client = this.#client
    if (client === undefined || !this.#ready) return
    // A rejection is none of this check: the pings notice a connection that does not answer.
    this.#endpoint.objection?.(client).then(reason => {
      if (reason !== undefined && client === this.#client) this.#listener?.unusable?.(reason)
    }, () => {})
  }

  #lost (error: unknown): void {
    const text = describeError(error)
    this.reason = this.#endpoint.login?.explain(text) ?? text
    const was = this.#ready
    this.#ready = false
    if (was) this.#listener?.linkLost(this)
    else this.#listener?.attemptFailed?.(this)
  }
}
