/**
 * Names of all keys and Pub/Sub channels on Redis. The channel is in braces, as a hash tag: all keys of a channel are
 * in one slot of a Redis Cluster, as a script requires.
 */
export class RedisKeys {
  readonly #prefix: string

  constructor (prefix: string) {
    this.#prefix = prefix
  }

  /** Pub/Sub channel of a channel. */
  pubsub (channel: string): string { return this.#key('pub', channel) }
  /** Stream with the newest publications. */
  stream (channel: string): string { return this.#key('stream', channel) }
  /**
   * Hash with the epoch in `e` and the offset of the last publication in `s`. An epoch that continues another one has
   * the offset after which it began in `b`, and the other one in `p`.
   */
  position (channel: string): string { return this.#key('position', channel) }
  /** Hash with the result of a publish with an idempotency key. */
  result (channel: string, idempotencyKey: string): string { return `${this.#key('result', channel)}:${idempotencyKey}` }
  /** Hash of sequences of publications with an idempotency key and no history, by publishing instance. */
  sequences (channel: string): string { return this.#key('sequences', channel) }
  /** Hash of presence: connection id to member. */
  members (channel: string): string { return this.#key('members', channel) }
  /** Sorted set of presence: connection ids by the time at which they expire. */
  membersUntil (channel: string): string { return this.#key('members-until', channel) }
  /** Hash of presence: user to number of connections; only where somebody asks for it. */
  membersUsers (channel: string): string { return this.#key('members-users', channel) }
  /** Hash of a user's session fields. */
  session (user: string): string { return this.#key('session', user) }
  /** Number of upgrades from one client address in the current window. */
  rateLimit (address: string): string { return this.#key('rate-limit', address) }
  /** Hash of occupancy: subject to number of instances, or to the time at which its grace period is over. */
  occupancy (shard: string): string { return this.#key('occupancy', shard) }
  /** Sorted set of occupancy: subjects by the time at which their grace period is over. */
  occupancyDue (shard: string): string { return this.#key('occupancy-due', shard) }
  /** Sorted set of occupancy: instances by the time at which they count as crashed. */
  occupancyLeases (shard: string): string { return this.#key('occupancy-leases', shard) }
  /** Hash of occupancy: the epoch of the data in `e`. */
  occupancyEpoch (shard: string): string { return this.#key('occupancy-epoch', shard) }
  /** Hash of occupancy: the subjects of one instance. */
  occupancyHeld (shard: string, instance: string): string { return `${this.#key('occupancy-held', shard)}:${instance}` }

  /** Key, and Pub/Sub channel, with which the rights of the Redis user are tried. */
  get rights (): string { return this.#key('rights', 'check') }
  /** Pattern of all keys and Pub/Sub channels, as an ACL has it. */
  get pattern (): string { return `${this.#prefix}:*` }

  /** Escapes braces, which would end the hash tag early. An empty name becomes '%': Redis ignores an empty hash tag. */
  #key (kind: string, name: string): string {
    return `${this.#prefix}:${kind}:{${name.replace(/[%{}]/g, encodeURIComponent) || '%'}}`
  }
}
