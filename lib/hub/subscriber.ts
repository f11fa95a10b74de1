import type { Batch, Frame, PublicationEncoder } from '../model/encoder.ts'

/** Where the hub writes what all subscribers of a channel get. */
export interface SubscriberOutbox {
  /** Bytes written but not yet accepted by the socket. */
  readonly bufferedBytes: number
  writeBatch (batch: Batch): void
  /** Holds writes back until `uncork`, so that they leave together. */
  cork (): void
  uncork (): void
  /**
   * True while the socket has not accepted what it was given. Then `sendSkipped` of the subscriptions is called
   * later.
   */
  isCongested (): boolean
}

/** What the hub needs of a connection. */
export interface Subscriber {
  /** Publications with this id as their `except` are not for this subscriber. */
  readonly id: string
  readonly encoder: PublicationEncoder
  /** False as soon as the connection is closing or closed. */
  readonly open: boolean
  readonly outbox: SubscriberOutbox
  /** Number of the last flush that found this subscriber in a channel. The hub sets it. */
  flushedBy: number
  /** Sends one frame, after the publications that are pending for this subscriber. False if it has ended. */
  write (frame: Frame): boolean
  /** Sends what is pending in all its channels. */
  flush (): void
  /** The subscriber missed publications in this channel, or its position is void: it must recover. */
  positionLost (channel: string): void
}
