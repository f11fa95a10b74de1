import type { Position, Publication } from './publication.ts'

/** How long a channel remembers: the newest `size` publications, all of them until `ttl` ms after the last one. */
export interface HistorySettings {
  readonly size: number
  readonly ttl: number
}

/** ms to wait for Redis at the start; without it the app starts all the same. */
export const START_TIMEOUT = 2_000
/** ms that the result of a publish with an idempotency key is kept. */
export const IDEMPOTENCY_TTL = 300_000

/**
 * ms that a channel's epoch and top offset outlive its last use: positions older than this can not be recovered from.
 */
export const POSITION_TTL = 7 * 24 * 3_600_000

export interface PublishSettings {
  /** Set in channels with history: the publication gets an offset and can be read again. */
  readonly history: HistorySettings | undefined
  /** A second publish with this key within five minutes changes nothing and resolves with the first one's position. */
  readonly idempotencyKey?: string | undefined
}

export interface HistoryQuery {
  /** At most so many publications; 0 asks for the position alone. */
  readonly limit: number
  /** Only publications after this position (before it, with `reverse`). */
  readonly since?: Position | undefined
  /** Newest first. */
  readonly reverse?: boolean | undefined
}

export interface History extends Position {
  publications: Publication[]
}

/** What a broker tells about one channel. */
export interface ChannelListener {
  deliver (publication: Publication): void
  canAccept (): boolean
  missed (count: number, reason: string): void
  positionLost (): void
}

/** What a broker tells the instance. */
export interface BrokerListener {
  /** The link between the instances went down or came back. */
  stateChanged (up: boolean, reason: string): void
}

/**
 * Moves publications between instances and keeps history.
 *
 * A publish MUST be one atomic step with its history: the offset is assigned, stored and sent in one go, so that every
 * subscriber sees the same order as the stream. Every subscriber, the publisher's own instance included, MUST get it
 * through `deliver`: there is no second, local path. Within a channel with history `deliver` MUST be called with
 * consecutive offsets of one epoch; what can not be delivered MUST be reported by `missed` before the next
 * publication is delivered.
 */
export interface Broker {
  /** False while publications of other instances can not arrive. */
  readonly up: boolean
  /**
   * Resolves when the broker works, or after a moment without Redis: a missing Redis never keeps an app from
   * starting.
   */
  start (listener: BrokerListener): Promise<void>
  /**
   * Resolves when stored (with history) or handed on (without). Rejects with a coded error within two seconds;
   * nothing is queued.
   */
  publish (channel: string, publication: Publication, settings: PublishSettings): Promise<Partial<Position>>
  /**
   * Resolves only when every publication from now on will be delivered; with history, to the position from which on.
   */
  subscribe (channel: string, history: boolean, listener: ChannelListener): Promise<void>
  unsubscribe (channel: string): void
  /** @throws FST_CRWS_UNRECOVERABLE_POSITION when `since` names another epoch. */
  history (channel: string, query: HistoryQuery): Promise<History>
  /** Bounded: resolves within a second, whatever Redis does. */
  close (): Promise<void>
}
