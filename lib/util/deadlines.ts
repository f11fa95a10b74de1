/** Milliseconds between two looks at what is due: what has many deadlines is not looked through for each of them. */
const GRANULARITY = 10
/** Milliseconds that a timer of Node.js waits at most. It fires a longer one at once. */
const MAX_WAIT = 2_147_483_647

/** Something that is given up at a time. */
export interface Expiring {
  /** Unix time in milliseconds. */
  readonly expiresAt: number
  /** Called once, when the time has come. MUST NOT throw. */
  expire (): void
}

/** Waits for any number of deadlines with one timer, which runs only while there is one. It keeps no process alive. */
export class Deadlines {
  readonly #waiting = new Set<Expiring>()
  #timer: NodeJS.Timeout | undefined
  /** Unix time in milliseconds at which the timer fires. */
  #firesAt = Infinity

  add (one: Expiring): void {
    this.#waiting.add(one)
    this.#fireAt(one.expiresAt)
  }

  delete (one: Expiring): void {
    this.#waiting.delete(one)
    if (this.#waiting.size === 0) this.#stop()
  }

  #fireAt (time: number): void {
    if (time >= this.#firesAt) return
    this.#stop()
    this.#firesAt = time
    this.#timer = setTimeout(() => this.#fire(), Math.min(MAX_WAIT, Math.max(GRANULARITY, time - Date.now()))).unref()
  }

  #stop (): void {
    clearTimeout(this.#timer)
    this.#firesAt = Infinity
  }

  #fire (): void {
    this.#firesAt = Infinity
    const now = Date.now()
    let next = Infinity
    for (const one of Array.from(this.#waiting)) {
      if (one.expiresAt > now) {
        next = Math.min(next, one.expiresAt)
      } else if (this.#waiting.delete(one)) {
        one.expire()
      }
    }
    if (next !== Infinity) this.#fireAt(next)
  }
}
