import type { Random } from './random.ts'

/** Milliseconds that something is on its way: mostly, and now and then. */
const USUAL: [number, number] = [0, 3]
const SLOW: [number, number] = [20, 200]
const OFTEN_SLOW = 0.02

/** One connection: what is sent in a direction arrives there late, and in order, or not at all. */
export class Wire {
  /** What is sent is lost. */
  silent = false
  readonly #random: Random
  #ended = false
  readonly #due = { up: 0, down: 0 }

  constructor (random: Random) {
    this.#random = random
  }

  /** Asks the other end. Either of the two may never be called. */
  request<T> (ask: () => T, answered: (answer: T) => void): void {
    this.#send('up', () => {
      const answer = ask()
      this.#send('down', () => answered(answer))
    })
  }

  /** Sends something back. */
  down (arrived: () => void): void {
    this.#send('down', arrived)
  }

  /** Nothing arrives any more. */
  end (): void {
    this.#ended = true
  }

  #send (direction: 'up' | 'down', arrived: () => void): void {
    const now = Date.now()
    const due = Math.max(this.#due[direction], now + this.#random.between(...this.#random.chance(OFTEN_SLOW) ? SLOW : USUAL))
    this.#due[direction] = due
    if (this.silent) return
    setTimeout(() => { if (!this.#ended && !this.silent) arrived() }, due - now)
  }
}
