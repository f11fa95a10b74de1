import type { FastifyRequest } from 'fastify'
import type { Push, SubscribeRequest } from './schema.ts'
import type { Connection } from '../../core/connection.ts'
import type { Joining } from '../../hub/joining.ts'
import type { Identity } from '../../options/options.ts'
import { framesOf } from '../../core/protocol.ts'
import type { Position, Publication } from '../../model/publication.ts'
import { EXPIRY_GRACE } from './requests.ts'
import type { SdkProtocol } from './protocol.ts'
import type { TokenBucket } from '../../util/token-bucket.ts'

/** One channel of an SDK connection. */
export interface Subscription {
  /** The host subscribed it; the client can not subscribe to it again, and must begin anew where a client-side one subscribes again. */
  readonly serverSide: boolean
  /** Whether it is told who joins and leaves. */
  joinLeave: boolean
  /** What others see of it in this channel. */
  info: unknown
  /** Unix time in ms; Infinity: never. */
  expiresAt: number
  /** Whether the client is to bring a new token before it expires. */
  readonly refreshable: boolean
}

/** Unix time in ms at which it is ended from here: a client that can refresh it may be about to. */
export function endOf ({ expiresAt, refreshable }: Subscription): number {
  return refreshable ? expiresAt + EXPIRY_GRACE : expiresAt
}

/** What an SDK connection knows of itself. */
export class SdkSession {
  /** It must connect first; once, and all else waits for that. */
  phase: 'new' | 'connecting' | 'connected' | 'failed' = 'new'
  /** Until it has connected: the upgrade's request, and what `authenticate` said of it. */
  request: FastifyRequest | undefined
  readonly identity: Identity | undefined
  /** Channels, those on their way in included. */
  readonly subscriptions = new Map<string, Subscription>()
  /** Server-side subscriptions that wait for the reply to connect. */
  readonly deferred = new Map<string, Joining>()
  /** Where the client was in server-side subscriptions, as it says in connect. */
  positions: Record<string, SubscribeRequest> = {}
  /** Whether it pings natively, for tools that do not speak the protocol. */
  readonly nativePing: boolean
  /** Whether the host was told that it is there, so that it is told when it is gone. */
  welcomed = false
  /** Unix time in ms from which on a pong is not counted as a command. */
  freePongAt = 0
  /** Whether the connection lives by a token that the client refreshes. */
  refreshable = false
  /** Channels its token named. */
  tokenChannels: readonly string[] = []
  readonly publishBuckets = new Map<string, TokenBucket>()
  /** Publications that Redis has not acknowledged yet. */
  publishing = 0
  /** When the first of its subscriptions ends, or earlier. */
  nextExpiry = Infinity

  readonly connection: Connection
  readonly #protocol: SdkProtocol

  constructor (connection: Connection, protocol: SdkProtocol, request: FastifyRequest, identity: Identity | undefined) {
    this.connection = connection
    this.#protocol = protocol
    this.request = request
    this.identity = identity
    this.nativePing = (request.query as Record<string, unknown> | undefined)?.cf_ws_frame_ping_pong === 'true'
  }

  /** Where to recover a server-side subscription from. */
  positionOf (channel: string): Position | undefined {
    const position = this.positions[channel]
    return this.phase === 'connecting' && position?.recover ? { offset: position.offset ?? 0, epoch: position.epoch ?? '' } : undefined
  }

  /** The host has taken back what it had subscribed. */
  takeDeferred (channel: string): Joining | undefined {
    const joining = this.deferred.get(channel)
    if (this.deferred.delete(channel)) this.subscriptions.delete(channel)
    return joining
  }

  push (push: Push): void {
    this.connection.write(this.#protocol.frame({ push }))
  }

  pushAll (channel: string, publications: Publication[]): void {
    for (const frame of framesOf(this.#protocol, channel, publications)) this.connection.write(frame)
  }
}
