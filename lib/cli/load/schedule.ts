import { Latency } from './latency.ts'

const TICK = 20

/** One timer for everything that a run has to do later: thousands of clients share it. */
export class Schedule {
  /** By how much the ticks came late. It is how long the event loop of this process was busy with something else. */
  readonly lateness = new Latency()
  readonly #due = new Map<number, Array<() => void>>()
  readonly #onTick: (now: number) => void
  #timer: NodeJS.Timeout | undefined
  /** What is due at ticks up to this one has run. */
  #tick = Math.floor(performance.now() / TICK)
  #last = 0

  /** `onTick` runs at every tick, with `performance.now()`. */
  constructor (onTick: (now: number) => void) {
    this.#onTick = onTick
  }

  start (): void {
    this.#last = performance.now()
    this.#timer = setInterval(() => this.#run(), TICK)
  }

  stop (): void {
    clearInterval(this.#timer)
    this.#due.clear()
  }

  /** Runs `action` in `ms` milliseconds, at the next tick after that. */
  after (ms: number, action: () => void): void {
    const tick = Math.max(this.#tick + 1, Math.ceil((performance.now() + ms) / TICK))
    const actions = this.#due.get(tick)
    if (actions === undefined) this.#due.set(tick, [action])
    else actions.push(action)
  }

  #run (): void {
    const now = performance.now()
    this.lateness.record(Math.max(0, now - this.#last - TICK))
    this.#last = now
    const current = Math.floor(now / TICK)
    while (this.#tick < current) {
      const tick = ++this.#tick
      const actions = this.#due.get(tick) ?? []
      this.#due.delete(tick)
      for (const action of actions) action()
    }
    this.#onTick(now)
  }
}
