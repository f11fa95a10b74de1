/** Connections that are looked at together, and how many of them must agree. */
const WINDOW = 20
const AGREEING = 15
/** ms and share of the age, whichever is less, within which ages agree. */
const TOLERANCE = 2_000
const TOLERANCE_SHARE = 0.02
/** ms; what breaks sooner was never well, and no timeout is at fault. */
const MIN_AGE = 10_000
/** ms; what breaks together is one event: many that came together may well go together. */
const SPACING = 1_000

/**
 * Finds out whether connections break at one age, which a timeout on their way does and clients that vanish do not.
 */
export class CommonAge {
  readonly #ages: number[] = []
  #addedAt = -Infinity

  /** A connection broke at this age, in ms. Gives the age at which most of the last ones broke, undefined if there is none. */
  add (age: number, now: number): number | undefined {
    if (now - this.#addedAt < SPACING) return undefined
    this.#addedAt = now
    this.#ages.push(age)
    if (this.#ages.length > WINDOW) this.#ages.shift()
    const sorted = this.#ages.toSorted((a, b) => a - b)
    for (let i = 0; i + AGREEING <= sorted.length; i++) {
      const youngest = sorted[i] as number
      const oldest = sorted[i + AGREEING - 1] as number
      if (this.#ages.length === WINDOW && youngest >= MIN_AGE && oldest - youngest <= Math.min(TOLERANCE, youngest * TOLERANCE_SHARE)) return oldest
    }
    return undefined
  }
}
