import { Ranges } from './ranges.ts'
import type { Stream } from './stream.ts'

export type Arrival = 'first' | 'again' | 'disordered'

/** What one client got of one stream. */
export class Receiver {
  readonly stream: Stream
  /** Numbers from here on are expected; -1 before the client has subscribed. */
  #start = -1
  /** One more than the highest number that arrived. */
  #next = -1
  /** Lower numbers that have not arrived. */
  readonly #missing = new Ranges()
  /** What is lower should have arrived: it was settled before something was sent that has arrived. */
  #floor = 0
  #final: number | undefined

  constructor (stream: Stream) {
    this.stream = stream
  }

  /** Everything that is sent from now on is expected, even while the client is away. Has an effect once. */
  begin (): void {
    if (this.#start === -1) this.#start = this.#next = this.stream.next
  }

  /** The server has ended the subscription for good: what has not come by now is not expected any more. */
  end (): void {
    this.#final ??= this.#next
  }

  /** Takes a publication. `settled` is what it carries. */
  take (number: number, settled: number): Arrival {
    this.begin() // a server that delivers before it has confirmed the subscription
    const isEarly = number < this.#start // sent before the client had subscribed
    const isLate = number < this.#floor && !this.stream.uncertain.has(number)
    this.#floor = Math.max(this.#floor, settled)
    if (isEarly) return 'first'
    if (number >= this.#next) {
      this.#missing.add(this.#next, number)
      this.#next = number + 1
      return 'first'
    }
    if (!this.#missing.delete(number)) return 'again'
    return isLate ? 'disordered' : 'first'
  }

  /** Publications that have not arrived, although later ones have: only a recovery could still bring them. */
  get overdue (): number {
    let overdue = 0
    for (const [start, end] of this.#missing) overdue += this.stream.certain(start, Math.min(end, this.#floor))
    return overdue
  }

  /** Publications that had to arrive and have not. */
  get lost (): number {
    if (this.#start === -1) return 0
    let lost = this.stream.certain(this.#next, this.#final ?? this.stream.next)
    for (const [start, end] of this.#missing) lost += this.stream.certain(start, end)
    return lost
  }
}
