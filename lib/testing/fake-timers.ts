import { promisify } from 'node:util'

/** What Node.js takes for a delay that it cannot use. */
const MIN_DELAY = 1
const MAX_DELAY = 2 ** 31 - 1

type Callback = (...args: unknown[]) => void

/** Timers by a clock that somebody else moves. */
export class FakeTimers {
  /** Unix time in milliseconds. */
  now: number
  /** Those that are due at the same time run in this order. */
  readonly pending = new Set<FakeTimer>()

  constructor (now: number) {
    this.now = now
  }

  /** Runs the next timer that is due by then, at its own time. False if there is none. */
  runNext (end: number): boolean {
    let next: FakeTimer | undefined
    for (const timer of this.pending) if (timer.dueAt <= end && (next === undefined || timer.dueAt < next.dueAt)) next = timer
    if (next === undefined) return false
    this.now = Math.max(this.now, next.dueAt)
    next.run()
    return true
  }

  /** Values for the global names. `clearReal`: for timers from before. */
  globals (clearReal: typeof clearTimeout): Record<string, unknown> {
    const set = (repeats: boolean) => (callback: Callback, delay?: number, ...args: unknown[]) => {
      return new FakeTimer(this, () => callback(...args), delay, repeats)
    }
    const clear = (timer: FakeTimer | NodeJS.Timeout | undefined) => timer instanceof FakeTimer ? timer.close() : clearReal(timer)
    const wait = (delay?: number, value?: unknown) => new Promise(resolve => new FakeTimer(this, () => resolve(value), delay, false))
    const setTimeout = Object.assign(set(false), { [promisify.custom]: wait })
    return { Date: this.#date(), setTimeout, setInterval: set(true), clearTimeout: clear, clearInterval: clear }
  }

  /** The real `Date`, but for what asks for the present time. Every date stays an instance of both. */
  #date (): DateConstructor {
    const now = () => this.now
    return new Proxy(Date, {
      apply: RealDate => new RealDate(now()).toString(),
      construct: (RealDate, args, newTarget) => Reflect.construct(RealDate, args.length === 0 ? [now()] : args, newTarget),
      get: (RealDate, name) => name === 'now' ? now : Reflect.get(RealDate, name)
    })
  }
}

/** One timer, with the methods of Node.js' own. */
class FakeTimer {
  dueAt = 0
  readonly #timers: FakeTimers
  readonly #callback: () => void
  readonly #delay: number
  readonly #repeats: boolean

  constructor (timers: FakeTimers, callback: () => void, delay: unknown, repeats: boolean) {
    this.#timers = timers
    this.#callback = callback
    const ms = Math.trunc(Number(delay))
    this.#delay = ms >= MIN_DELAY && ms <= MAX_DELAY ? ms : MIN_DELAY
    this.#repeats = repeats
    this.refresh()
  }

  run (): void {
    if (this.#repeats) this.refresh()
    else this.close()
    this.#callback()
  }

  refresh (): this {
    this.close()
    this.dueAt = this.#timers.now + this.#delay
    this.#timers.pending.add(this)
    return this
  }

  close (): void { this.#timers.pending.delete(this) }
  [Symbol.dispose] (): void { this.close() }
  /** No fake timer keeps the process alive. */
  ref (): this { return this }
  unref (): this { return this }
  hasRef (): boolean { return false }
}
