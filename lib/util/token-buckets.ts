import { TokenBucket } from './token-bucket.ts'
import type { Rate } from './token-bucket.ts'

/** A bucket for each of any number of keys. As many are remembered as there is room for. */
export class TokenBuckets {
  readonly #max: number
  /** The oldest first. */
  readonly #buckets = new Map<string, TokenBucket>()

  constructor (max: number) {
    this.#max = max
  }

  get size (): number { return this.#buckets.size }

  /** The bucket of this key. It is made when it is first asked for. */
  of (key: string, rate: Rate, now: number): TokenBucket {
    let bucket = this.#buckets.get(key)
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#max) this.#makeRoom(now)
      this.#buckets.set(key, bucket = new TokenBucket(rate, now))
    }
    return bucket
  }

  /** Forgets what is as good as new, and the oldest if that is not a tenth: this is not done at every call. */
  #makeRoom (now: number): void {
    for (const [key, bucket] of this.#buckets) if (bucket.isFull(now)) this.#buckets.delete(key)
    let surplus = this.#buckets.size - this.#max * 0.9
    for (const key of this.#buckets.keys()) {
      if (surplus-- <= 0) return
      this.#buckets.delete(key)
    }
  }
}
