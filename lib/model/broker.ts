import type { Position, Publication } from './publication.ts'

/** How much a channel keeps: its newest `size` publications, until `ttl` has passed since the last one. */
export interface HistorySettings {
  /** Number of publications kept at most. */
  readonly size: number
  /** Milliseconds. Every publication extends the life of all that are kept. */
  readonly ttl: number
}

/** Milliseconds that `Broker.start` waits for Redis. */
export const START_TIMEOUT = 2_000

/** Milliseconds that the result of a publish with an idempotency key is kept. */
export const IDEMPOTENCY_TTL = 300_000

/** Milliseconds that epoch and offset are kept after a channel's last use. No older position can be recovered from. */
export const POSITION_TTL = 7 * 24 * 3_600_000

/**
 * The same in milliseconds for a channel that nobody has published to. Clients may invent names, and each of them takes
 * memory. A channel with subscribers is read every 30 s, and so is kept.
 */
export const UNPUBLISHED_TTL = 120_000

/** How a publication is published. */
export interface PublishSettings {
  /**
   * History of the channel; undefined if it has none. With history, the publication gets an offset and is stored.
   * false: the channel has history, but this publication is not kept.
   */
  readonly history: HistorySettings | undefined | false
  /**
   * Makes a retry harmless, for example after a publish whose outcome is unknown. A second publish to this channel with
   * the same key within `IDEMPOTENCY_TTL` publishes nothing and resolves with the position of the first.
   */
  readonly idempotencyKey?: string | undefined
}

/** Which part of a channel's history is read. */
export interface HistoryQuery {
  /** Number of publications at most; 0 reads the position alone. */
  readonly limit: number
  /**
   * Exclusive: only publications after this position, or before it with `reverse`. undefined: from the oldest, or the
   * newest with `reverse`. The empty epoch matches any.
   */
  readonly since?: Position | undefined
  /** True for newest first. */
  readonly reverse?: boolean | undefined
  /** With `reverse`: only publications after this offset. `@default` 0 */
  readonly until?: number
  /** Bytes of what is stored at most; the first publication is always read. `@default` no limit */
  readonly maxBytes?: number
}

/** Part of a channel's history, and the position of the channel: that of its last publication. */
export interface History extends Position {
  /** In the order that was asked for. Those that an earlier epoch has left have the present epoch, too. */
  publications: Publication[]
}

/** What a broker calls for one subscribed channel. */
export interface ChannelListener {
  /**
   * Takes the next publication. With history the broker MUST deliver consecutive offsets of one epoch, each once. It
   * MUST call `missed` before it skips an offset, and `positionLost` before the first publication of another epoch.
   * MUST NOT throw.
   */
  deliver (publication: Publication): void
  /**
   * Returns false while a subscriber is too slow to take more. A broker that delivers missed publications from history
   * MUST wait for it, but only for a bounded time. MUST NOT throw.
   */
  canAccept (): boolean
  /**
   * `count` publications are lost for good; at least so many if the number cannot be known. The broker MUST report a
   * gap before the next publication. MUST NOT throw.
   */
  missed (count: number, reason: string): void
  /** Subscribers can no longer rely on their position (a gap, or a new epoch): they must recover. MUST NOT throw. */
  positionLost (): void
}

/** What a broker calls for its instance. */
export interface BrokerListener {
  /** The connection to the other instances went down, or is up again. `reason`: why it is down; '' if it is up. */
  stateChanged (up: boolean, reason: string): void
  /** It is still down, now for a reason that somebody has to do something about. */
  stillDown? (reason: string): void
  /** `count` publications of a channel that nobody here is subscribed to were acknowledged, and are lost for good. */
  missed (channel: string, count: number, reason: string): void
}

/** Carries publications between instances and keeps history. */
export interface Broker {
  /** False while publications of other instances cannot arrive. A broker in memory MUST return true. */
  readonly up: boolean
  /** Connects. MUST resolve after `START_TIMEOUT` even if Redis is down, which never keeps an app from starting. */
  start (listener: BrokerListener): Promise<void>
  /**
   * Publishes to all subscribers of a channel. Resolves with the position (empty without history) once the publication
   * is stored, or, without history, handed to Pub/Sub.
   *
   * With history, assigning the offset, storing and sending MUST be one atomic step: every subscriber sees the order of
   * the stream. A subscriber at the publisher's own instance MUST get the publication through `deliver` too, and only
   * once. MUST NOT queue while Redis is down.
   * @throws FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER or FST_CRWS_REDIS_REFUSED, within two seconds.
   */
  publish (channel: string, publication: Publication, settings: PublishSettings): Promise<Partial<Position>>
  /**
   * Starts delivering a channel to `listener`. MUST NOT resolve before every later publication is sure to be delivered.
   * MUST deliver nothing that was published before the call.
   * @param history True if the channel has history, so that gaps can be repaired.
   */
  subscribe (channel: string, history: boolean, listener: ChannelListener): Promise<void>
  /** Stops delivering a channel. MUST take effect at once: nothing is delivered after the call. */
  unsubscribe (channel: string): void
  /**
   * Reads a channel's history. MUST start an epoch if there is none, so that the position can be recovered from.
   * @throws FST_CRWS_UNRECOVERABLE_POSITION if `since` is of another epoch.
   */
  history (channel: string, query: HistoryQuery): Promise<History>
  /**
   * Removes the publications of a channel's history. Offset and epoch MUST stay: whoever is at the last offset has
   * missed nothing, and whoever is behind it has a gap that cannot be filled.
   * @throws as `publish`
   */
  removeHistory (channel: string): Promise<void>
  /** Disconnects. MUST resolve within a second, whatever Redis does. */
  close (): Promise<void>
}
