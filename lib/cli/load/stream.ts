import { Ranges } from './ranges.ts'

/**
 * The numbered publications of this run in one channel. With plain clients, which have no channels, what one client
 * sends is a stream.
 */
export class Stream {
  readonly name: string
  readonly index: number
  /** The number that the next publication gets. */
  next = 0
  /** Numbers whose fate is unknown or which were refused: nobody counts on them, but they may arrive. */
  readonly uncertain = new Ranges()
  readonly #inFlight = new Set<number>()

  constructor (name: string, index: number) {
    this.name = name
    this.index = index
  }

  /**
   * The number below which nothing is on its way to the server any more. Every publication carries it: what was
   * acknowledged before another was sent has to arrive before it.
   */
  get settled (): number {
    const [lowest] = this.#inFlight
    return lowest ?? this.next
  }

  get waiting (): number {
    return this.#inFlight.size
  }

  /** Takes the number of a publication that is about to be sent. */
  take (): number {
    this.#inFlight.add(this.next)
    return this.next++
  }

  acknowledged (number: number): void {
    this.#inFlight.delete(number)
  }

  /** It was refused, or its connection closed before the answer. */
  doubted (number: number): void {
    this.#inFlight.delete(number)
    this.uncertain.add(number, number + 1)
  }

  /** How many of these numbers have to arrive. */
  certain (start: number, end: number): number {
    return Math.max(0, end - start) - this.uncertain.count(start, end)
  }
}
