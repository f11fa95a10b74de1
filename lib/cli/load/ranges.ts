/** A set of whole numbers that come in runs: a list of half-open ranges, in order, that neither overlap nor touch. */
export class Ranges {
  readonly #starts: number[] = []
  readonly #ends: number[] = []

  /** Adds the numbers from `start` up to, but without, `end`. None of them is in it yet. */
  add (start: number, end: number): void {
    if (start >= end) return
    const i = this.#indexAfter(start)
    const joinsLeft = i > 0 && this.#ends[i - 1] === start
    const joinsRight = this.#starts[i] === end
    if (joinsLeft && joinsRight) {
      this.#ends[i - 1] = this.#ends[i]!
      this.#starts.splice(i, 1)
      this.#ends.splice(i, 1)
    } else if (joinsLeft) {
      this.#ends[i - 1] = end
    } else if (joinsRight) {
      this.#starts[i] = start
    } else {
      this.#starts.splice(i, 0, start)
      this.#ends.splice(i, 0, end)
    }
  }

  has (number: number): boolean {
    const i = this.#indexAfter(number) - 1
    return i >= 0 && number < this.#ends[i]!
  }

  /** Takes a number out. Returns false if it was not in it. */
  delete (number: number): boolean {
    const i = this.#indexAfter(number) - 1
    const end = this.#ends[i]
    if (end === undefined || number >= end) return false
    const start = this.#starts[i]!
    this.#starts.splice(i, 1)
    this.#ends.splice(i, 1)
    this.add(start, number)
    this.add(number + 1, end)
    return true
  }

  /** How many numbers from `start` up to, but without, `end` are in it. */
  count (start: number, end: number): number {
    let sum = 0
    for (let i = Math.max(0, this.#indexAfter(start) - 1); i < this.#starts.length && this.#starts[i]! < end; i++) {
      sum += Math.max(0, Math.min(end, this.#ends[i]!) - Math.max(start, this.#starts[i]!))
    }
    return sum
  }

  * [Symbol.iterator] (): Generator<[number, number]> {
    for (let i = 0; i < this.#starts.length; i++) yield [this.#starts[i]!, this.#ends[i]!]
  }

  /** Index of the first range that starts after `number`. */
  #indexAfter (number: number): number {
    let low = 0
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#starts[middle]! <= number) low = middle + 1
      else high = middle
    }
    return low
  }
}
