import { randomUUID } from 'node:crypto'
import type { Broker, ChannelListener } from '../model/broker.ts'
import { encodePayload, newPublication } from '../model/publication.ts'
import type { Publication } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import { settledWithin } from '../util/timeout.ts'
import { MAX_LOGGED } from './control.ts'
import type { Ask, Control } from './control.ts'
import type { InstanceInfo, InstanceRegistry } from './instance-registry.ts'

/** Starts the name of the channel on which an instance gets answers. No app can name it. */
const ANSWERS_CHANNEL = '\u0000answers:'
/** Milliseconds that an instance has to answer. */
const TIMEOUT = 1_000

/** A question that each instance answers for itself. Only its name travels: `About` and `Answer` are JSON. */
export interface Question<About, Answer> {
  readonly name: string
  /**
   * False for what no instance answers: others can write to Redis, too. Such an answer is logged, and its sender is
   * missing. `@default` everything is an answer
   */
  readonly isAnswer?: (value: unknown) => boolean
  /** For the types alone. */
  readonly types?: { about: About, answer: Answer }
}

/** A name, and how many there are of it on one instance, or on all. */
export type Count = readonly [name: string, count: number]

export function areCounts (value: unknown): boolean {
  return Array.isArray(value) && value.every(one => Array.isArray(one) && typeof one[0] === 'string' && Number.isSafeInteger(one[1]))
}

/** Adds up what the instances have counted. */
export function sumsOf ({ of }: Answers<readonly Count[]>): Map<string, number> {
  const sums = new Map<string, number>()
  for (const counts of of.values()) {
    for (const [name, count] of counts) sums.set(name, (sums.get(name) ?? 0) + count)
  }
  return sums
}

/** What the instances have answered, by their ids. */
export interface Answers<Answer> {
  readonly of: ReadonlyMap<string, Answer>
  /** Instances that gave no answer in time: they have crashed, are overloaded, or run another release. */
  readonly missing: readonly string[]
}

/** An answer as it travels. `failed` stands for one that there is not. */
interface Answered {
  readonly id: string
  readonly from: string
  readonly answer?: unknown
  readonly failed?: boolean
}

/** A question under way. */
interface Asked {
  readonly of: Map<string, unknown>
  /** Instances that may still answer, with their records. */
  readonly open: Map<string, InstanceInfo>
  /** Those of them that are worth waiting for. */
  readonly awaited: Set<string>
  readonly isAnswer: (value: unknown) => boolean
  complete (): void
}

/**
 * Asks all instances. Questions travel beside the commands, and each answer as a publication to the instance that
 * asked. Nothing is stored, so a question that nobody asks costs nothing.
 */
export class Survey implements ChannelListener {
  readonly #instance: string
  readonly #broker: Broker
  readonly #control: Control
  readonly #registry: InstanceRegistry
  readonly #observer: Observer
  readonly #answering = new Map<string, (about: never) => unknown>()
  readonly #asked = new Map<string, Asked>()
  /**
   * Instances that did not answer, each with the `uptime` of its last record. One that has crashed is listed for a
   * minute: nobody waits for it again, unless it has recorded itself since.
   */
  readonly #silent = new Map<string, number>()
  #listening: Promise<void> | undefined

  constructor (instance: string, broker: Broker, control: Control, registry: InstanceRegistry, observer: Observer) {
    this.#instance = instance
    this.#broker = broker
    this.#control = control
    this.#registry = registry
    this.#observer = observer
    control.carry('ask', question => this.#answer(question))
  }

  /** Sets what answers a question on this instance. */
  answer<About, Answer> ({ name }: Question<About, Answer>, run: (about: About) => Answer | Promise<Answer>): void {
    this.#answering.set(name, run)
  }

  /**
   * Asks every instance, this one included. Resolves when all have answered, after a second at the latest. Rejects if
   * the answer of this instance throws.
   * @throws FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  async ask<About, Answer> ({ name, isAnswer = () => true }: Question<About, Answer>, about: About): Promise<Answers<Answer>> {
    const of = new Map<string, Answer>([[this.#instance, await this.#run(name, about) as Answer]])
    const open = new Map((await this.#registry.list()).map(info => [info.instance, info]))
    open.delete(this.#instance)
    this.#forget(open)
    const awaited = new Set(Array.from(open.values()).filter(info => !this.#isSilent(info)).map(({ instance }) => instance))
    if (awaited.size === 0) return { of, missing: Array.from(open.keys()) }
    const id = randomUUID()
    const complete = new Promise<void>(resolve => { this.#asked.set(id, { of, open, awaited, isAnswer, complete: resolve }) })
    try {
      await this.#listen()
      await this.#control.ask({ type: 'ask', id, from: this.#instance, question: name, about })
      await settledWithin(complete, TIMEOUT)
    } finally {
      this.#asked.delete(id)
    }
    for (const instance of awaited) this.#silent.set(instance, open.get(instance)!.uptime)
    return { of, missing: Array.from(open.keys()) }
  }

  deliver ({ payload }: Publication): void {
    const json = payload.toString()
    try {
      this.#take(JSON.parse(json) as Answered)
    } catch (error) {
      this.#observer.controlFailed(json.slice(0, MAX_LOGGED), error) // others can write to Redis, too
    }
  }

  canAccept (): boolean { return true }

  /** Who has asked waits no longer than `TIMEOUT`. */
  missed (): void {}

  positionLost (): void {}

  #take ({ id, from, answer, failed = false }: Answered): void {
    const asked = this.#asked.get(id)
    if (!asked?.open.has(from)) return // it came too late
    asked.awaited.delete(from)
    this.#silent.delete(from)
    if (asked.awaited.size === 0) asked.complete()
    if (failed) return
    if (!asked.isAnswer(answer)) throw new Error(`this is no answer to the question of instance ${this.#instance}`)
    asked.open.delete(from)
    asked.of.set(from, answer)
  }

  #isSilent ({ instance, uptime }: InstanceInfo): boolean { return this.#silent.get(instance) === uptime }

  /** Forgets silent instances that are no longer listed. */
  #forget (listed: ReadonlyMap<string, InstanceInfo>): void {
    for (const instance of this.#silent.keys()) {
      if (!listed.has(instance)) this.#silent.delete(instance)
    }
  }

  #listen (): Promise<void> {
    this.#listening ??= this.#broker.subscribe(ANSWERS_CHANNEL + this.#instance, false, this).catch((error: unknown) => {
      this.#listening = undefined
      throw error
    })
    return this.#listening
  }

  async #answer ({ id, from, question, about }: Ask): Promise<void> {
    if (typeof id !== 'string' || typeof from !== 'string') throw new Error('a question has an id, and says who asks')
    if (from === this.#instance) return
    // A release that knows more questions may ask. It does not wait for an answer that there is not.
    if (!this.#answering.has(question)) return this.#send(from, { id, from: this.#instance, failed: true })
    let answered: Answered
    try {
      answered = { id, from: this.#instance, answer: await this.#run(question, about) }
    } catch (error) {
      await this.#send(from, { id, from: this.#instance, failed: true })
      throw error
    }
    await this.#send(from, answered)
  }

  async #send (to: string, answered: Answered): Promise<void> {
    await this.#broker.publish(ANSWERS_CHANNEL + to, newPublication(this.#instance, encodePayload(answered)), { history: false })
  }

  async #run (question: string, about: unknown): Promise<unknown> {
    const run = this.#answering.get(question)
    if (run === undefined) throw new Error(`nothing answers the question ${question} on this instance`)
    return run(about as never)
  }
}
