/** How many within how many milliseconds. */
export interface Rate { readonly max: number, readonly timeWindow: number }

/**
 * Allows `max` at once, refilled evenly over `timeWindow`. Synchronous: @fastify/rate-limit's own per-call limiter
 * counts a burst of messages in one turn wrongly, and costs a promise for each.
 */
export class TokenBucket {
  readonly rate: Rate
  /** Takes that were refused, less those allowed since; at least 0. */
  refused = 0
  #tokens: number
  #filledAt: number

  constructor (rate: Rate, now: number) {
    this.rate = rate
    this.#tokens = rate.max
    this.#filledAt = now
  }

  /** Takes one token. False if there is none. A `now` before that of an earlier call adds none. */
  take (now: number): boolean {
    const { max, timeWindow } = this.rate
    if (now > this.#filledAt) {
      this.#tokens = Math.min(max, this.#tokens + (now - this.#filledAt) * max / timeWindow)
      this.#filledAt = now
    }
    if (this.#tokens < 1) {
      this.refused++
      return false
    }
    this.#tokens--
    if (this.refused > 0) this.refused--
    return true
  }

  /** Takes tokens for what was done already. The bucket may owe them, but never more than `max`: one `timeWindow`. */
  charge (tokens: number): void {
    this.#tokens = Math.max(-this.rate.max, this.#tokens - tokens)
  }

  /** True if it is as good as new: nothing is lost if it is forgotten. */
  isFull (now: number): boolean {
    const { max, timeWindow } = this.rate
    return this.#tokens + (now - this.#filledAt) * max / timeWindow >= max
  }
}
