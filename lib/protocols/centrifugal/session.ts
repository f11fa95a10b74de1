import type { FastifyRequest } from 'fastify'
import type { Connection } from '../../core/connection.ts'
import type { Session } from '../../core/session.ts'
import { topOf } from '../../hub/recovery.ts'
import type { Subscription } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { SubscribeResult } from '../../model/connection.ts'
import { framesOf } from '../../model/encoder.ts'
import type { Position, Publication } from '../../model/publication.ts'
import type { Identity } from '../../options/options.ts'
import type { TokenBucket } from '../../util/token-bucket.ts'
import { unsubscribeCodes } from './errors.ts'
import type { SdkProtocol } from './protocol.ts'
import { subscribeReply } from './replies.ts'
import { EXPIRY_GRACE } from './requests.ts'
import type { Push, SubscribeRequest } from './schema.ts'

/** Unix time in ms at which it is ended from here: a client that can refresh it may be about to. */
export function endOf ({ expiresAt, refreshable }: Subscription): number {
  return refreshable ? expiresAt + EXPIRY_GRACE : expiresAt
}

/** What an SDK connection knows of itself. */
export class SdkSession implements Session {
  readonly positioned = true
  /** It must connect first; once, and all else waits for that. */
  phase: 'new' | 'connecting' | 'connected' | 'failed' = 'new'
  /** Until it has connected: the upgrade's request, and what `authenticate` said of it. */
  request: FastifyRequest | undefined
  readonly identity: Identity | undefined
  /** Where the client was in server-side subscriptions, as it says in connect. */
  positions: Record<string, SubscribeRequest> = {}
  /** Whether it pings natively, for tools that do not speak the protocol. */
  readonly nativePing: boolean
  connected = false
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

  get hasFailed (): boolean { return this.phase === 'failed' }

  handle (data: Buffer, binary: boolean): Promise<void> {
    return this.#protocol.handle(this, data, binary)
  }

  ping (): void {
    if (this.nativePing) this.connection.ping()
    else this.connection.write(this.#protocol.encoder.ping)
  }

  sweep (now: number): void {
    if (now >= this.nextExpiry) this.#protocol.commands.expire(this, now)
  }

  /** Where to recover a server-side subscription from. */
  positionOf (channel: string): Position | undefined {
    const position = this.positions[channel]
    return this.phase === 'connecting' && position?.recover ? { offset: position.offset ?? 0, epoch: position.epoch ?? '' } : undefined
  }

  /** A server-side subscription: with the reply to connect, or by a push. */
  subscribed (subscription: Subscription): SubscribeResult {
    if (this.phase !== 'connected') return {}
    const { channel, since } = subscription
    const recovery = subscription.admit()
    /* c8 ignore next 4 -- a publication would have to be lost in the very moment of this call; connect and subscribe, where it can be provoked, are tested */
    if (recovery === undefined) {
      this.connection.end(sdkOnlyCloseCodes.insufficientState)
      return {}
    }
    const { recoverable = false, positioned = false, epoch = '', offset = 0 } = subscribeReply(recovery, false)
    this.push({ channel, subscribe: { recoverable, positioned, epoch, offset } })
    this.pushAll(channel, [...recovery.missed, ...recovery.live])
    this.#protocol.commands.subscriptions.announceJoin(this.connection, subscription)
    if (since === undefined) return {}
    this.#protocol.commands.observer.recovered(recovery.recovered)
    return { recovered: recovery.recovered, offset: topOf(recovery), epoch }
  }

  unsubscribed (channel: string): void {
    this.push({ channel, unsubscribe: unsubscribeCodes.server })
  }

  /** The client subscribes again and recovers what can be recovered; where the app has subscribed it, it connects again. */
  positionLost (subscription: Subscription): void {
    if (subscription.serverSide) this.connection.end(sdkOnlyCloseCodes.insufficientState)
    else this.#protocol.commands.drop(this, subscription, unsubscribeCodes.insufficientState)
  }

  push (push: Push): void {
    this.connection.write(this.#protocol.encoder.frame({ push }))
  }

  pushAll (channel: string, publications: Publication[]): void {
    for (const frame of framesOf(this.#protocol.encoder, channel, publications)) this.connection.write(frame)
  }
}
