import { RedisUnavailableError } from '../../model/errors.ts'
import { withDeadline } from './commands.ts'
import { newClient, RedisLink } from './link.ts'
import type { RedisSource } from '../../options/redis-source.ts'

export interface SubscriberListener {
  /** MUST NOT throw: node-redis takes an exception here for a fault of the link and drops the rest of what it has read. */
  message (pubsub: string, bytes: Buffer): void
  /** From now on messages of this Pub/Sub channel may be lost. */
  lost (pubsub: string): void
  /** Messages arrive again. */
  restored (pubsub: string): void
  /** `ready` may have changed. */
  changed (): void
}

/** Receives Pub/Sub messages over links of its own. */
export interface RedisSubscriber {
  /** Whether every channel that is wanted is subscribed. */
  readonly ready: boolean
  /** Why it is not ready. */
  readonly reason: string
  open (listener: SubscriberListener): void
  /** Resolves when messages arrive. Fails fast with a coded error; then the channel is not wanted. */
  subscribe (pubsub: string): Promise<void>
  unsubscribe (pubsub: string): void
  close (): Promise<void>
}

/** One link to one server, which comes back with all its subscriptions. */
export class StandaloneSubscriber implements RedisSubscriber {
  readonly #link: RedisLink
  readonly #wanted = new Set<string>()
  #onMessage: (bytes: Buffer, pubsub: Buffer) => void = () => {}

  constructor (source: RedisSource & { kind: 'standalone' | 'client' }) {
    this.#link = new RedisLink(newClient(source))
  }

  get ready (): boolean { return this.#link.ready }
  get reason (): string { return this.#link.reason }

  open (listener: SubscriberListener): void {
    this.#onMessage = (bytes, pubsub) => {
      const name = pubsub.toString()
      if (this.#wanted.has(name)) listener.message(name, bytes)
      else this.unsubscribe(name) // left over from an unsubscribe that the link did not live to see
    }
    const tell = (what: 'lost' | 'restored') => {
      for (const pubsub of this.#wanted) listener[what](pubsub)
      listener.changed()
    }
    this.#link.open({ linkReady: () => tell('restored'), linkLost: () => tell('lost') })
  }

  async subscribe (pubsub: string): Promise<void> {
    if (!this.ready) throw new RedisUnavailableError(this.reason)
    this.#wanted.add(pubsub)
    try {
      await withDeadline(this.#link.client.subscribe(pubsub, this.#onMessage, true))
    } catch (error) {
      this.unsubscribe(pubsub)
      throw error
    }
  }

  unsubscribe (pubsub: string): void {
    this.#wanted.delete(pubsub)
    // Fails only with the link; a subscription that survives that is ended when its next message comes.
    this.#link.client.unsubscribe(pubsub, this.#onMessage, true)?.catch(() => {})
  }

  close (): Promise<void> { return this.#link.close() }
}
