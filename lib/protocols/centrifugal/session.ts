import type { FastifyRequest } from 'fastify'
import type { Connection } from '../../core/connection.ts'
import type { Session } from '../../core/session.ts'
import { topOf } from '../../hub/recovery.ts'
import type { Subscription } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { SubscribeResult } from '../../model/connection.ts'
import { framesOf } from '../../model/encoder.ts'
import type { Position, Publication } from '../../model/publication.ts'
import { unsubscribeCodes } from '../../model/unsubscribe-codes.ts'
import type { Identity } from '../../options/identity.ts'
import type { Context } from './context.ts'
import type { SdkEncoder } from './encoder.ts'
import { subscribeReply } from './replies.ts'
import type { Push } from './schema.ts'

/**
 * Shared by all sessions of one encoding and transport. A contract, as commands import the session: without it they
 * would form a circle.
 */
export interface SdkSessionOwner {
  readonly encoder: SdkEncoder
  readonly context: Context
  /** Handles one message: a frame of commands. */
  handle (session: SdkSession, data: Buffer, binary: boolean): Promise<void>
  /** Ends the subscriptions that were not refreshed in time. */
  expire (session: SdkSession, now: number): void
}

export const NO_POSITIONS: ReadonlyMap<string, Position> = new Map()

/** State of one SDK connection. */
export class SdkSession implements Session {
  readonly positioned = true
  /** `connect` comes first, once; all other commands wait for it. After a failed one the client must close. */
  phase: 'new' | 'connecting' | 'connected' | 'failed' = 'new'
  connected = false
  /** Returned by `authenticate` for the upgrade; undefined without it. */
  identity: Identity | undefined
  /** The upgrade's request, until `connect` has it. */
  request: FastifyRequest | undefined
  /** Positions from which the client recovers server-side subscriptions, by channel. Empty but during `connect`. */
  positions = NO_POSITIONS
  /** Server-side subscriptions, buffered and read, that the reply to connect admits. */
  readonly joined: Subscription[] = []
  /** True if the client can be sent a number in place of a channel's name. */
  takesNumbers = false
  /** True if pings are WebSocket frames, for tools that do not speak the protocol. */
  nativePing = false
  /** Unix time in milliseconds from which the next pong is not counted as a command. */
  freePongAt = 0
  /** True if the connection has a token that expires, which the client refreshes. */
  refreshable = false
  /** Channels in the connection token, sorted. */
  tokenChannels: readonly string[] = []
  /** Channels that the client has left: it pays for what it recovers there. Made when it first leaves one. */
  left: Set<string> | undefined
  /** Commands under way that the next one need not wait for. */
  overlapping = 0
  /** Goes on with the command that waits until fewer overlap. */
  #goOn: (() => void) | undefined
  /** Unix time in milliseconds at which the first subscription ends, or earlier. */
  nextExpiry = Infinity

  readonly connection: Connection
  /** What a client names in its posts, where WebSockets are blocked: whoever has it may send for the client. */
  readonly secret: string | undefined
  readonly #owner: SdkSessionOwner

  constructor (connection: Connection, owner: SdkSessionOwner, secret?: string) {
    this.connection = connection
    this.secret = secret
    this.#owner = owner
  }

  start (identity: Identity | undefined, request: FastifyRequest): void {
    this.identity = identity
    this.request = request
    this.nativePing = (request.query as Record<string, unknown> | undefined)?.cf_ws_frame_ping_pong === 'true'
  }

  get encoder (): SdkEncoder { return this.#owner.encoder }

  handle (data: Buffer, binary: boolean): Promise<void> {
    return this.#owner.handle(this, data, binary)
  }

  ping (): void {
    if (this.nativePing) this.connection.ping()
    else this.connection.write(this.#owner.encoder.ping)
  }

  /** Resolves when a command that overlaps is done, or the connection is closed. */
  roomForOverlap (): Promise<void> {
    return new Promise(resolve => { this.#goOn = resolve })
  }

  /** A command that overlaps is done. */
  overlapEnded (): void {
    this.overlapping--
    this.#goOn?.()
    this.#goOn = undefined
  }

  closed (): void {
    this.#goOn?.()
  }

  sweep (now: number): void {
    if (now >= this.nextExpiry) this.#owner.expire(this, now)
  }

  positionOf (channel: string): Position | undefined {
    return this.positions.get(channel)
  }

  subscribed (subscription: Subscription): SubscribeResult {
    if (this.phase !== 'connected') {
      this.joined.push(subscription)
      return {}
    }
    const { subscriptions, observer } = this.#owner.context
    const { channel, since } = subscription
    const recovery = subscription.admit()
    if (recovery === undefined) { // a gap
      this.connection.end(sdkOnlyCloseCodes.insufficientState)
      return {}
    }
    const { recoverable = false, positioned = false, epoch = '', offset = 0 } = subscribeReply(recovery, false)
    this.push({ channel, subscribe: { recoverable, positioned, epoch, offset } })
    this.pushAll(subscription, [...recovery.missed, ...recovery.live])
    subscriptions.announceJoin(this.connection, subscription)
    if (since === undefined) return {}
    observer.recovered(recovery.recovered)
    return { recovered: recovery.recovered, offset: topOf(recovery), epoch }
  }

  unsubscribed (channel: string): void {
    this.push({ channel, unsubscribe: unsubscribeCodes.server })
  }

  /** Makes the client subscribe again and recover what it can. For a server-side subscription it must connect again. */
  positionLost (subscription: Subscription): void {
    if (subscription.serverSide) this.connection.end(sdkOnlyCloseCodes.insufficientState)
    else this.drop(subscription, unsubscribeCodes.insufficientState)
  }

  /** Ends a client-side subscription on behalf of the server, and tells the client why. */
  drop (subscription: Subscription, why: { code: number, reason: string }): void {
    this.#owner.context.subscriptions.end(this.connection, subscription)
    this.push({ channel: subscription.channel, unsubscribe: why })
  }

  push (push: Push): void {
    this.connection.write(this.#owner.encoder.frame({ push }))
  }

  /** @param previous The publication that the client has received last. */
  pushAll ({ encoder, channel }: Subscription, publications: Publication[], previous?: Publication): void {
    for (const frame of framesOf(encoder, channel, publications, previous)) this.connection.write(frame)
  }
}
