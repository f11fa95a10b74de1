import type { Connection } from './connection.ts'
import type { Rate } from '../util/token-bucket.ts'
import { TokenBuckets } from '../util/token-buckets.ts'

/** Buckets that are remembered, some 10 MB of them at the most. */
const MAX_BUCKETS = 50_000

/** How fast each user of this instance publishes to each channel; each connection, where there is no user. */
export class PublishLimits {
  readonly #buckets = new TokenBuckets(MAX_BUCKETS)

  get size (): number { return this.#buckets.size }

  /** False if this publish comes too fast. Connecting again changes nothing for a user. */
  take ({ id, user }: Connection, channel: string, limit: Rate, now: number): boolean {
    // No channel has a control character in its name, so no two pairs have the same key.
    const key = user === '' ? `${channel}\n\n${id}` : `${channel}\n${user}`
    return this.#buckets.of(key, limit, now).take(now)
  }
}
