import type { FastifyRequest } from 'fastify'
import type { SubscribeResult } from '../model/connection.ts'
import type { Position } from '../model/publication.ts'
import type { Subscription } from '../hub/subscription.ts'
import type { Identity } from '../options/identity.ts'

/** What a protocol knows of one connection. `Protocol.open` returns it. */
export interface Session {
  /** True if the client keeps its position in every channel with history, and not only where `since` was given. */
  readonly positioned: boolean
  /** True if `onConnect` was called, so that `onDisconnect` is owed. */
  readonly connected: boolean
  /** Called right after the upgrade. `identity` is what `authenticate` returned; undefined without it. */
  start (identity: Identity | undefined, request: FastifyRequest): void
  /**
   * Handles one message. The next one of the same connection waits until the result, if it is a promise, has settled.
   * A rejection or an exception is a failure of your app's handler.
   */
  handle (data: Buffer, binary: boolean): unknown
  /**
   * Asks the client, and resolves to its answer. Absent: the protocol has no requests to clients. `timeout`:
   * milliseconds.
   */
  ask? (method: string, data: unknown, timeout: number): Promise<unknown>
  /** Asks the client for a sign of life. */
  ping (): void
  /** Wakes what waits for its turn: nobody needs the answer any more. */
  closed (): void
  /** Called at every sweep of the heartbeat. */
  sweep (now: number): void
  /** Position from which a subscription by the app recovers if the app named none. */
  positionOf (channel: string): Position | undefined
  /**
   * The app, not the client, has subscribed the connection. Admits the subscription now, or when the client is ready
   * for it.
   */
  subscribed (subscription: Subscription): SubscribeResult
  /** The app, not the client, has unsubscribed the connection. */
  unsubscribed (channel: string): void
  /** The client missed publications in this channel, or its position is void: it must recover. */
  positionLost (subscription: Subscription): void
}
