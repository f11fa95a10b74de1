import type { ResolvedLimit } from '../options/options.ts'

/**
 * `max` at once, refilled evenly over `timeWindow`. Synchronous: @fastify/rate-limit's own per-call limiter counts a burst
 * of messages in one turn wrongly and costs a promise for each.
 */
export class TokenBucket {
  #tokens: number
  #filledAt: number

  constructor ({ max }: ResolvedLimit, now: number) {
    this.#tokens = max
    this.#filledAt = now
  }

  /** Takes one token, if there is one. */
  take ({ max, timeWindow }: ResolvedLimit, now: number): boolean {
    this.#tokens = Math.min(max, this.#tokens + (now - this.#filledAt) * max / timeWindow)
    this.#filledAt = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
