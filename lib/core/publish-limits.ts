import type { Connection } from './connection.ts'
import type { Rate } from '../util/token-bucket.ts'
import { TokenBucket } from '../util/token-bucket.ts'

/** Buckets that are remembered, some 10 MB of them at the most. */
const MAX_BUCKETS = 50_000

/** How fast each user of this instance publishes to each channel; each connection, where there is no user. */
export class PublishLimits {
  /** The oldest first. */
  readonly #buckets = new Map<string, TokenBucket>()

  get size (): number { return this.#buckets.size }

  /** False if this publish comes too fast. Connecting again changes nothing for a user. */
  take ({ id, user }: Connection, channel: string, limit: Rate, now: number): boolean {
    // No channel has a control character in its name, so no two pairs have the same key.
    const key = user === '' ? `${channel}\n\n${id}` : `${channel}\n${user}`
    let bucket = this.#buckets.get(key)
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_BUCKETS) this.#makeRoom(now)
      this.#buckets.set(key, bucket = new TokenBucket(limit, now))
    }
    return bucket.take(now)
  }

  /** Forgets what is as good as new, and the oldest if that is not a tenth: this is not done at every publish. */
  #makeRoom (now: number): void {
    for (const [key, bucket] of this.#buckets) if (bucket.isFull(now)) this.#buckets.delete(key)
    let surplus = this.#buckets.size - MAX_BUCKETS * 0.9
    for (const key of this.#buckets.keys()) {
      if (surplus-- <= 0) return
      this.#buckets.delete(key)
    }
  }
}
