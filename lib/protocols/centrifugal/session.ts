import type { FastifyRequest } from 'fastify'
import type { Connection } from '../../core/connection.ts'
import { framesOf } from '../../core/protocol.ts'
import type { Frame, Protocol } from '../../core/protocol.ts'
import type { Joining } from '../../hub/joining.ts'
import type { Position, Publication } from '../../model/publication.ts'
import type { Identity } from '../../options/options.ts'
import type { TokenBucket } from '../../util/token-bucket.ts'
import type { Push, Reply } from './schema.ts'

/** An SDK connection in one channel. */
export interface Subscription {
  /** Made by the app. The client can not subscribe to the channel too, and must connect again to recover. */
  readonly serverSide: boolean
  /** Whether the client is sent joins and leaves. */
  joinLeave: boolean
  /** What others see of the client in this channel. */
  info: unknown
  /** Unix time in ms; Infinity: never. */
  expiresAt: number
  /** Whether the client is to bring a new token before it expires. */
  refreshable: boolean
}

/** Makes frames of replies too. */
export interface ReplyEncoder extends Protocol {
  frame (reply: Reply): Frame
}

export const NO_POSITIONS: ReadonlyMap<string, Position> = new Map()

/** State of one SDK connection. */
export class SdkSession {
  /** `connect` comes first, once; all other commands wait for it. After a failed one the client must close. */
  phase: 'new' | 'connecting' | 'connected' | 'failed' = 'new'
  /** The upgrade's request, until `onConnect` has it. */
  request: FastifyRequest | undefined
  /** What `authenticate` returned. */
  readonly identity: Identity | undefined
  /** By channel, pending ones included. */
  readonly subscriptions = new Map<string, Subscription>()
  /** Server-side subscriptions that wait for the reply to connect. */
  readonly deferred = new Map<string, Joining>()
  /** Positions from which the client wants to recover server-side subscriptions; from connect until its reply. */
  positions = NO_POSITIONS
  /** Whether to ping with WebSocket frames, for tools that do not speak the protocol. */
  readonly nativePing: boolean
  /** Whether `onConnect` was called, so that `onDisconnect` must be. */
  welcomed = false
  /** Unix time in ms from which the next pong is not counted as a command. */
  freePongAt = 0
  /** Whether the connection has a token that expires, which the client refreshes. */
  refreshable = false
  /** Channels in the connection token, sorted. */
  tokenChannels: readonly string[] = []
  /** Rate of publishes, by channel. */
  readonly publishBuckets = new Map<string, TokenBucket>()
  /** Publishes that Redis has not acknowledged yet. */
  publishing = 0
  /** Unix time in ms at which the first subscription ends, or earlier. */
  nextExpiry = Infinity

  readonly connection: Connection
  readonly encoder: ReplyEncoder

  constructor (connection: Connection, encoder: ReplyEncoder, request: FastifyRequest, identity: Identity | undefined) {
    this.connection = connection
    this.encoder = encoder
    this.request = request
    this.identity = identity
    this.nativePing = (request.query as Record<string, unknown> | undefined)?.cf_ws_frame_ping_pong === 'true'
  }

  /** Where to recover a server-side subscription from. */
  positionOf (channel: string): Position | undefined {
    return this.positions.get(channel)
  }

  /** Removes a server-side subscription that waits for the reply to connect; the app has taken it back. */
  takeDeferred (channel: string): Joining | undefined {
    const joining = this.deferred.get(channel)
    if (this.deferred.delete(channel)) this.subscriptions.delete(channel)
    return joining
  }

  push (push: Push): void {
    this.connection.write(this.encoder.frame({ push }))
  }

  pushAll (channel: string, publications: Publication[]): void {
    for (const frame of framesOf(this.encoder, channel, publications)) this.connection.write(frame)
  }
}
