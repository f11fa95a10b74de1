import { randomUUID } from 'node:crypto'
import type { Broker, ChannelListener } from '../model/broker.ts'
import { encodePayload, newPublication } from '../model/publication.ts'
import type { Publication } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import type { Deadlines, Expiring } from '../util/deadlines.ts'
import { MAX_LOGGED } from './control.ts'
import type { InstanceRegistry } from './instance-registry.ts'

/** Starts the name of the channel on which an instance gets letters and replies. No app can name it. */
const MAIL_CHANNEL = '\u0000mail:'
/** Milliseconds that the other instance has to reply: SDKs wait five seconds for the answer to a command. */
const TIMEOUT = 3_000
/** Milliseconds for which an instance that is listed is believed to be there. */
const KNOWN_FOR = 5_000
/** Letters of this instance that may wait for a reply. */
const MAX_WAITING = 1_000

/** A letter as it travels, and the reply to one. */
type Travelling<Letter, Reply> = { readonly id: string } & ({ readonly from: string, readonly letter: Letter } | { readonly reply: Reply })

/** A letter that waits for its reply. */
interface Waiting<Reply> extends Expiring { readonly replied: (reply: Reply) => void }

/**
 * Letters from one instance to another, and a reply to each. They are JSON, arrive once at the most, and concern nobody
 * else: whoever gets no reply knows that one of the two may be lost.
 */
export class Mail<Letter, Reply> implements ChannelListener {
  readonly #instance: string
  readonly #broker: Broker
  readonly #registry: InstanceRegistry
  readonly #observer: Observer
  readonly #deadlines: Deadlines
  readonly #read: (letter: Letter) => Reply | Promise<Reply>
  readonly #waiting = new Map<string, Waiting<Reply>>()
  #known: ReadonlySet<string> = new Set()
  /** Unix time in milliseconds. */
  #knownUntil = 0
  #listing: Promise<void> | undefined
  #listening: Promise<boolean> | undefined

  /** `read`: takes a letter on this instance, and returns its reply. What is in it is not trusted. */
  constructor (
    instance: string, broker: Broker, registry: InstanceRegistry, observer: Observer, deadlines: Deadlines,
    read: (letter: Letter) => Reply | Promise<Reply>
  ) {
    this.#instance = instance
    this.#broker = broker
    this.#registry = registry
    this.#observer = observer
    this.#deadlines = deadlines
    this.#read = read
  }

  /** Resolves when letters arrive; to false while Redis is down. To be called again then. */
  listen (): Promise<boolean> {
    this.#listening ??= this.#broker.subscribe(MAIL_CHANNEL + this.#instance, false, this).then(() => true, () => {
      this.#listening = undefined
      return false // the broker has said that it is down
    })
    return this.#listening
  }

  /**
   * Sends a letter. Resolves to the reply; to 'unknown' if there is no such instance, and to 'silent' if it has not
   * replied in time, or too many letters wait.
   * @throws FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  async send (to: string, letter: Letter): Promise<Reply | 'unknown' | 'silent'> {
    if (!await this.#isKnown(to)) return 'unknown'
    if (!await this.listen() || this.#waiting.size >= MAX_WAITING) return 'silent'
    const id = randomUUID()
    try {
      return await new Promise<Reply | 'silent'>((resolve, reject) => {
        const waiting = { expiresAt: Date.now() + TIMEOUT, expire: () => resolve('silent'), replied: resolve }
        this.#waiting.set(id, waiting)
        this.#deadlines.add(waiting)
        this.#post(to, { id, from: this.#instance, letter }).catch(reject)
      })
    } finally {
      this.#deadlines.delete(this.#waiting.get(id)!)
      this.#waiting.delete(id)
    }
  }

  deliver ({ payload }: Publication): void {
    const json = payload.toString()
    // Others can write to Redis, too.
    this.#take(json).catch((error: unknown) => this.#observer.controlFailed(loggable(json), error))
  }

  canAccept (): boolean { return true }

  /** Whoever has sent it waits no longer than `TIMEOUT`. */
  missed (): void {}

  positionLost (): void {}

  async #take (json: string): Promise<void> {
    const travelling = JSON.parse(json) as Travelling<Letter, Reply>
    if (typeof travelling?.id !== 'string') throw new Error('a letter between instances has an id')
    if ('reply' in travelling) return this.#waiting.get(travelling.id)?.replied(travelling.reply)
    const { id, from, letter } = travelling
    if (typeof from !== 'string') throw new Error('a letter between instances says who has sent it')
    await this.#post(from, { id, reply: await this.#read(letter) })
  }

  async #post (to: string, travelling: Travelling<Letter, Reply>): Promise<void> {
    await this.#broker.publish(MAIL_CHANNEL + to, newPublication(this.#instance, encodePayload(travelling)), { history: false })
  }

  /** Only letters to instances that are listed cost more than a look at the list. */
  async #isKnown (instance: string): Promise<boolean> {
    if (this.#known.has(instance) && Date.now() < this.#knownUntil) return true
    this.#listing ??= this.#list().finally(() => { this.#listing = undefined })
    await this.#listing
    return this.#known.has(instance)
  }

  async #list (): Promise<void> {
    this.#known = new Set((await this.#registry.list()).map(({ instance }) => instance))
    this.#knownUntil = Date.now() + KNOWN_FOR
  }
}

/** A letter as it may be logged: what a client sends is in it, and the secret with which it sends. */
function loggable (json: string): string {
  return json.replace(/"letter":.*/s, '"letter":…').slice(0, MAX_LOGGED)
}
