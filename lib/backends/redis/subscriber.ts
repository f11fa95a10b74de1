import { RedisUnavailableError } from '../../model/errors.ts'
import type { RedisClient } from './client.ts'
import { withDeadline } from './commands.ts'
import type { Endpoint } from './endpoint.ts'
import type { RedisKeys } from './keys.ts'
import { RedisLink } from './link.ts'
import { explained } from './rights.ts'

/** Channels that are subscribed anew at a time: commands wait in a queue that is bounded. */
const BATCH = 1_000

/**
 * Takes the messages of one Pub/Sub channel. MUST NOT throw: node-redis takes an exception for a broken connection and
 * discards the rest of what it has read.
 */
export type MessageListener = (bytes: Buffer) => void

export interface SubscriberListener {
  /** Messages of this Pub/Sub channel may be lost from now on. */
  lost (pubsub: string): void
  /** Messages arrive again. */
  restored (pubsub: string): void
  /** `ready` or `reason` may have changed. */
  changed (): void
}

/** Receives Pub/Sub messages over Redis connections of its own. */
export interface RedisSubscriber {
  /** True if all wanted channels are subscribed. */
  readonly ready: boolean
  /** Why it is not ready. Only meaningful while it is not. */
  readonly reason: string
  /** True if this channel is subscribed, or is just being subscribed for the first time. */
  isReady (pubsub: string): boolean
  open (listener: SubscriberListener): void
  /** Resolves when messages arrive. Rejects with a coded error within seconds; the channel is then not subscribed. */
  subscribe (pubsub: string, listener: MessageListener): Promise<void>
  /** Called again if messages still arrive, because the connection broke before the first unsubscribe was sent. */
  unsubscribe (pubsub: string, listener: MessageListener): void
  close (): Promise<void>
}

/** Pub/Sub over one link. It restores all subscriptions when it is back. */
export class StandaloneSubscriber implements RedisSubscriber {
  readonly #link: RedisLink
  readonly #keys: RedisKeys
  readonly #unusable: (reason: string) => void
  readonly #wanted = new Map<string, MessageListener>()
  /** The client that has the subscriptions. node-redis restores them when it reconnects it. */
  #subscribed: RedisClient | undefined

  /** @param unusable Called when the server turns out to be of no use: a replica now, for example. Calls `giveUp`. */
  constructor (endpoint: Endpoint, keys: RedisKeys, unusable: (reason: string) => void) {
    this.#link = new RedisLink(endpoint)
    this.#keys = keys
    this.#unusable = unusable
  }

  get ready (): boolean { return this.#link.ready }
  get reason (): string { return this.#link.reason }

  isReady (): boolean { return this.ready }

  open (listener: SubscriberListener): void {
    const tell = (what: 'lost' | 'restored') => {
      for (const pubsub of this.#wanted.keys()) listener[what](pubsub)
      listener.changed()
    }
    this.#link.open({
      prepare: client => this.#prepare(client),
      linkReady: () => tell('restored'),
      linkLost: () => tell('lost'),
      attemptFailed: () => listener.changed(),
      unusable: this.#unusable
    })
  }

  /** Connects anew. */
  giveUp (reason: string): void {
    this.#link.giveUp(new Error(reason))
  }

  async subscribe (pubsub: string, listener: MessageListener): Promise<void> {
    if (!this.ready) throw new RedisUnavailableError(this.reason)
    this.#wanted.set(pubsub, listener)
    try {
      await withDeadline(this.#link.client!.subscribe(pubsub, listener, true))
    } catch (error) {
      this.unsubscribe(pubsub, listener)
      throw error
    }
  }

  unsubscribe (pubsub: string, listener: MessageListener): void {
    const wanted = this.#wanted.get(pubsub)
    if (wanted === listener) this.#wanted.delete(pubsub)
    else if (wanted !== undefined) return // an UNSUBSCRIBE behind the SUBSCRIBE of `wanted` would silence it
    // Fails only if the connection breaks. A subscription that survives is ended at its next message.
    this.#link.client?.unsubscribe(pubsub, listener, true)?.catch(() => {})
  }

  close (): Promise<void> { return this.#link.close() }

  async #prepare (client: RedisClient): Promise<void> {
    if (this.#subscribed === client) return
    if (this.#subscribed === undefined) await this.#tryRights(client)
    const batch: Array<Promise<unknown>> = []
    for (const [pubsub, listener] of this.#wanted) { // what is unsubscribed meanwhile is left out
      batch.push(client.subscribe(pubsub, listener, true))
      if (batch.length === BATCH) await Promise.all(batch.splice(0))
    }
    await Promise.all(batch)
    this.#subscribed = client
  }

  async #tryRights (client: RedisClient): Promise<void> {
    const { rights } = this.#keys
    const ignore = () => {}
    let command = 'SUBSCRIBE'
    try {
      await client.subscribe(rights, ignore)
      command = 'UNSUBSCRIBE'
      await client.unsubscribe(rights, ignore)
    } catch (error) {
      throw explained(command, error, this.#keys)
    }
  }
}
