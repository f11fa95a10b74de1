/** Connections that are compared, and how many of them must agree. */
const WINDOW = 20
const AGREEING = 15
/** Ages agree within this many ms, and within this share of the age. */
const TOLERANCE = 2_000
const TOLERANCE_SHARE = 0.02
/** ms. A connection that breaks at a lower age never worked, and no timeout is the cause. */
const MIN_AGE = 10_000
/** ms. Connections that break closer together count as one event: those opened together may well break together. */
const SPACING = 1_000

/** Detects that connections break at one age. A timeout on their path causes that; clients that vanish do not. */
export class CommonAge {
  readonly #ages: number[] = []
  #addedAt = -Infinity

  /** Adds the age (ms) of a broken connection. Returns the age at which most of the last ones broke, if any. */
  add (age: number, now: number): number | undefined {
    if (now - this.#addedAt < SPACING) return undefined
    this.#addedAt = now
    this.#ages.push(age)
    if (this.#ages.length > WINDOW) this.#ages.shift()
    const sorted = this.#ages.toSorted((a, b) => a - b)
    for (let i = 0; i + AGREEING <= sorted.length; i++) {
      const youngest = sorted[i] as number
      const oldest = sorted[i + AGREEING - 1] as number
      const tolerance = Math.min(TOLERANCE, youngest * TOLERANCE_SHARE)
      if (this.#ages.length === WINDOW && youngest >= MIN_AGE && oldest - youngest <= tolerance) return oldest
    }
    return undefined
  }
}
