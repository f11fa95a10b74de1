import type { RedisSource } from '../../options/redis-source.ts'
import { RedisUnavailableError } from '../../model/errors.ts'
import { withDeadline } from './commands.ts'
import { newClient, RedisLink } from './link.ts'

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
  /** `ready` may have changed. */
  changed (): void
}

/** Receives Pub/Sub messages over Redis connections of its own. */
export interface RedisSubscriber {
  /** True if all wanted channels are subscribed. */
  readonly ready: boolean
  /** Why it is not ready. Only meaningful while it is not. */
  readonly reason: string
  open (listener: SubscriberListener): void
  /** Resolves when messages arrive. Rejects with a coded error within seconds; the channel is then not subscribed. */
  subscribe (pubsub: string, listener: MessageListener): Promise<void>
  /** Called again if messages still arrive, because the connection broke before the first unsubscribe was sent. */
  unsubscribe (pubsub: string, listener: MessageListener): void
  close (): Promise<void>
}

/** Pub/Sub over one Redis connection. A reconnect restores all subscriptions. */
export class StandaloneSubscriber implements RedisSubscriber {
  readonly #link: RedisLink
  readonly #wanted = new Map<string, MessageListener>()

  constructor (source: RedisSource & { kind: 'standalone' | 'client' }) {
    this.#link = new RedisLink(newClient(source))
  }

  get ready (): boolean { return this.#link.ready }
  get reason (): string { return this.#link.reason }

  open (listener: SubscriberListener): void {
    const tell = (what: 'lost' | 'restored') => {
      for (const pubsub of this.#wanted.keys()) listener[what](pubsub)
      listener.changed()
    }
    this.#link.open({ linkReady: () => tell('restored'), linkLost: () => tell('lost') })
  }

  async subscribe (pubsub: string, listener: MessageListener): Promise<void> {
    if (!this.ready) throw new RedisUnavailableError(this.reason)
    this.#wanted.set(pubsub, listener)
    try {
      await withDeadline(this.#link.client.subscribe(pubsub, listener, true))
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
    this.#link.client.unsubscribe(pubsub, listener, true)?.catch(() => {})
  }

  close (): Promise<void> { return this.#link.close() }
}
