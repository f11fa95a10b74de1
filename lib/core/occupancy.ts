import type { Backend } from '../backends/backend.ts'
import type { Occupancy, OccupancyKind, OccupancyListener } from '../model/occupancy.ts'
import type { Observer } from '../observability/observer.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { RecentTexts } from '../util/recent-texts.ts'
import { describe, readable } from '../util/thrown.ts'
import { settledWithin } from '../util/timeout.ts'
import { Turns } from '../util/turns.ts'

/** Milliseconds between two sweeps at least. */
const SWEEP_INTERVAL = 900
/** Milliseconds that `close` waits for handlers of the app, and for Redis. */
const CLOSE_TIMEOUT = 1_000

type Handler = (subject: string) => unknown

/** The handlers of one kind, and what their argument is called in the log. */
interface Handlers {
  readonly names: readonly [occupied: string, vacated: string]
  readonly argument: string
  readonly occupied: Handler | undefined
  readonly vacated: Handler | undefined
}

/**
 * What this instance holds of one kind: channels by their subscriptions, or users by their connections. The occupancy
 * learns only when the first one comes, and when the last one leaves.
 */
export class Occupants implements OccupancyListener {
  readonly #occupancy: Occupancy
  readonly #handlers: Handlers
  readonly #observer: Observer
  readonly #of = new Map<string, Set<object>>()
  /** Subjects that came or went in this turn of the event loop: whether this instance held them before. */
  readonly #changed = new Map<string, boolean>()
  /** Handlers run one after the other for the same subject. */
  readonly #turns = new Turns()
  readonly #underWay = new Set<Promise<void>>()
  readonly #failures = new RecentTexts()
  #sweptAt = 0
  #sweeping = false

  constructor (kind: OccupancyKind, instance: string, { occupancy }: Backend, gracePeriod: number, handlers: Handlers, observer: Observer) {
    this.#occupancy = occupancy({ kind, instance, gracePeriod }, this)
    this.#handlers = handlers
    this.#observer = observer
  }

  /** `occupant` is in the channel, or a connection of the user. */
  enter (subject: string, occupant: object): void {
    const occupants = this.#of.get(subject)
    if (occupants !== undefined) {
      occupants.add(occupant)
    } else {
      this.#of.set(subject, new Set([occupant]))
      this.#change(subject, false)
    }
  }

  /** May be called for one that has not entered. */
  leave (subject: string, occupant: object): void {
    const occupants = this.#of.get(subject)
    if (!occupants?.delete(occupant) || occupants.size > 0) return
    this.#of.delete(subject)
    this.#change(subject, true)
  }

  sweep (now: number): void {
    if (this.#sweeping || now - this.#sweptAt < SWEEP_INTERVAL) return
    this.#sweptAt = now
    this.#sweeping = true
    this.#track(this.#occupancy.sweep(now, () => this.#of.keys()).then(() => { this.#sweeping = false }))
  }

  recheck (): void { this.#occupancy.recheck() }

  /** Tells the others what has changed, and waits for handlers that run, for a while. */
  async close (): Promise<void> {
    this.#sweeping = true
    this.#flush()
    const settled = async () => {
      while (this.#underWay.size > 0) await Promise.all(this.#underWay)
    }
    await settledWithin(settled(), CLOSE_TIMEOUT)
  }

  occupied (subject: string): void { this.#run(0, this.#handlers.occupied, subject) }

  vacated (subject: string): void { this.#run(1, this.#handlers.vacated, subject) }

  /** Every sweep may fail for the same reason. */
  failed (error: unknown): void {
    if (this.#failures.isNew(String(error), Date.now())) this.#observer.callFailed(this.#handlers.names.join(', '), error)
  }

  /** Changes of one turn of the event loop leave together: after a deployment all clients reconnect at once. */
  #change (subject: string, before: boolean): void {
    if (this.#changed.size === 0) setImmediate(() => this.#flush())
    if (!this.#changed.delete(subject)) this.#changed.set(subject, before) // else it is as it was
  }

  #flush (): void {
    const changed = Array.from(this.#changed)
    this.#changed.clear()
    const left = changed.filter(([, before]) => before).map(([subject]) => subject)
    const entered = changed.filter(([, before]) => !before).map(([subject]) => subject)
    if (left.length > 0) this.#track(this.#occupancy.leave(left))
    if (entered.length > 0) this.#track(this.#occupancy.enter(entered))
  }

  #run (which: 0 | 1, handler: Handler | undefined, subject: string): void {
    if (handler === undefined) return
    const { names, argument } = this.#handlers
    this.#track(this.#turns.take(subject, async () => {
      try {
        await handler(subject)
      } catch (error) {
        const err = readable(error)
        this.#observer.entry('handler.failed', { handler: names[which], [argument]: subject, err }, `${names[which]} failed: ${describe(err)}`)
      }
    }))
  }

  #track (promise: Promise<void>): void {
    this.#underWay.add(promise)
    promise.then(() => this.#underWay.delete(promise))
  }
}

/** Who has come and gone, on all instances: of the kinds for which the app has a handler. */
export class Occupancies {
  readonly channels: Occupants | undefined
  readonly users: Occupants | undefined
  readonly #all: readonly Occupants[]

  constructor (instance: string, backend: Backend, options: ResolvedOptions, observer: Observer) {
    const { onOccupied, onVacated, onUserOnline, onUserOffline, gracePeriod } = options
    const of = (kind: OccupancyKind, handlers: Handlers) => {
      const { occupied, vacated } = handlers
      return occupied || vacated ? new Occupants(kind, instance, backend, gracePeriod, handlers, observer) : undefined
    }
    this.channels = of('channels', {
      names: ['onOccupied', 'onVacated'], argument: 'channel', occupied: onOccupied, vacated: onVacated
    })
    this.users = of('users', {
      names: ['onUserOnline', 'onUserOffline'], argument: 'user', occupied: onUserOnline, vacated: onUserOffline
    })
    this.#all = [this.channels, this.users].filter(one => one !== undefined)
  }

  sweep (now: number): void {
    for (const occupants of this.#all) occupants.sweep(now)
  }

  /** Redis may have come back empty, or with older data. */
  recheck (): void {
    for (const occupants of this.#all) occupants.recheck()
  }

  async close (): Promise<void> {
    await Promise.all(this.#all.map(occupants => occupants.close()))
  }
}
