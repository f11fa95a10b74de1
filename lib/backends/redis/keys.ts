/**
 * Every key and Pub/Sub channel name on Redis. The channel stands in braces, a hash tag: all that belongs to a channel
 * is in one slot of a Redis Cluster, so that one script may touch it.
 */
export class RedisKeys {
  readonly #prefix: string

  constructor (prefix: string) {
    this.#prefix = prefix
  }

  /** Pub/Sub channel. */
  pubsub (channel: string): string { return this.#key('pub', channel) }
  /** Stream of the last publications. */
  stream (channel: string): string { return this.#key('stream', channel) }
  /** Hash with the epoch `e` and the top offset `s`. */
  position (channel: string): string { return this.#key('position', channel) }
  /** Hash with the result of a publish that had an idempotency key. */
  result (channel: string, idempotencyKey: string): string { return `${this.#key('result', channel)}:${idempotencyKey}` }
  /** Hash from connection id to member. */
  members (channel: string): string { return this.#key('members', channel) }
  /** Sorted set of connection ids by the time at which they expire. */
  membersUntil (channel: string): string { return this.#key('members-until', channel) }
  /** Hash of a user's session fields. */
  session (user: string): string { return this.#key('session', user) }
  /** Upgrades of one client address in the current window. */
  rateLimit (address: string): string { return this.#key('rate-limit', address) }

  /** A brace in the name would end the hash tag early; an empty tag would not be one. */
  #key (kind: string, name: string): string {
    return `${this.#prefix}:${kind}:{${name.replace(/[%{}]/g, encodeURIComponent) || '%'}}`
  }
}
