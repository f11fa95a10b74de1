import { randomUUID } from 'node:crypto'
import type { Broker, ChannelListener } from '../model/broker.ts'
import { encodePayload, newPublication } from '../model/publication.ts'
import type { Publication } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import { settledWithin } from '../util/timeout.ts'
import type { Control } from './control.ts'
import type { InstanceRegistry } from './instance-registry.ts'

/** Starts the name of the channel on which an instance gets answers. No app can name it. */
const ANSWERS_CHANNEL = '\u0000answers:'
/** Milliseconds that an instance has to answer. One that has crashed is listed for a while, and never does. */
const TIMEOUT = 1_000

/** A question that each instance answers for itself. Only its name travels: `About` and `Answer` are JSON. */
export interface Question<About, Answer> {
  readonly name: string
  /** For the types alone. */
  readonly types?: { about: About, answer: Answer }
}

/** What the instances have answered, by their ids. */
export interface Answers<Answer> {
  readonly of: ReadonlyMap<string, Answer>
  /** Instances that did not answer in time: they have crashed, are overloaded, or run another release. */
  readonly missing: readonly string[]
}

/** An answer as it travels. */
interface Answered {
  readonly id: string
  readonly from: string
  readonly answer: unknown
}

interface Asked {
  readonly of: Map<string, unknown>
  readonly missing: Set<string>
  complete (): void
}

/**
 * Asks all instances. A question travels as a command, and each answer as a publication to the instance that asked.
 * Nothing is stored, so a question that nobody asks costs nothing.
 */
export class Survey implements ChannelListener {
  readonly #instance: string
  readonly #broker: Broker
  readonly #control: Control
  readonly #registry: InstanceRegistry
  readonly #observer: Observer
  readonly #answering = new Map<string, (about: never) => unknown>()
  readonly #asked = new Map<string, Asked>()
  #listening: Promise<void> | undefined

  constructor (instance: string, broker: Broker, control: Control, registry: InstanceRegistry, observer: Observer) {
    this.#instance = instance
    this.#broker = broker
    this.#control = control
    this.#registry = registry
    this.#observer = observer
    control.carry('ask', ({ id, from, question, about }) => this.#answer(id, from, question, about))
  }

  /** Sets what answers a question on this instance. */
  answer<About, Answer> ({ name }: Question<About, Answer>, run: (about: About) => Answer | Promise<Answer>): void {
    this.#answering.set(name, run)
  }

  /**
   * Asks every instance, this one included. Resolves when all have answered, after a second at the latest.
   * @throws FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  async ask<About, Answer> ({ name }: Question<About, Answer>, about: About): Promise<Answers<Answer>> {
    const of = new Map<string, Answer>([[this.#instance, await this.#run(name, about) as Answer]])
    const others = (await this.#registry.list()).map(({ instance }) => instance).filter(instance => instance !== this.#instance)
    if (others.length === 0) return { of, missing: [] }
    const id = randomUUID()
    const missing = new Set(others)
    const complete = new Promise<void>(resolve => { this.#asked.set(id, { of, missing, complete: resolve }) })
    try {
      await this.#listen()
      await this.#control.send({ type: 'ask', id, from: this.#instance, question: name, about })
      await settledWithin(complete, TIMEOUT)
    } finally {
      this.#asked.delete(id)
    }
    return { of, missing: Array.from(missing) }
  }

  deliver ({ payload }: Publication): void {
    const json = payload.toString()
    try {
      this.#take(JSON.parse(json) as Answered)
    } catch (error) {
      this.#observer.controlFailed(json, error) // others can write to Redis, too
    }
  }

  canAccept (): boolean { return true }

  /** Who has asked waits no longer than `TIMEOUT`. */
  missed (): void {}

  positionLost (): void {}

  #take ({ id, from, answer }: Answered): void {
    const asked = this.#asked.get(id)
    if (!asked?.missing.delete(from)) return // it came too late
    asked.of.set(from, answer)
    if (asked.missing.size === 0) asked.complete()
  }

  #listen (): Promise<void> {
    this.#listening ??= this.#broker.subscribe(ANSWERS_CHANNEL + this.#instance, false, this).catch((error: unknown) => {
      this.#listening = undefined
      throw error
    })
    return this.#listening
  }

  async #answer (id: string, to: string, question: string, about: unknown): Promise<void> {
    if (to === this.#instance) return
    const answer = await this.#run(question, about)
    const publication = newPublication(this.#instance, encodePayload({ id, from: this.#instance, answer }))
    await this.#broker.publish(ANSWERS_CHANNEL + to, publication, { history: undefined })
  }

  async #run (question: string, about: unknown): Promise<unknown> {
    const run = this.#answering.get(question)
    if (run === undefined) throw new Error(`nothing answers the question ${question} on this instance`)
    return run(about as never)
  }
}
