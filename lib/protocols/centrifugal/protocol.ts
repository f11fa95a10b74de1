import type { FastifyRequest } from 'fastify'
import type { Connection, SubscribeResult } from '../../core/connection.ts'
import type { Instance } from '../../core/connections.ts'
import type { Frame } from '../../core/protocol.ts'
import { topOf } from '../../hub/catch-up.ts'
import type { Joining } from '../../hub/joining.ts'
import { sdkCloseCodes, sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Publication } from '../../model/publication.ts'
import type { Metrics } from '../../observability/metrics.ts'
import type { Identity } from '../../options/options.ts'
import type { Codec } from './codec.ts'
import type { Context } from './context.ts'
import { Dispatcher } from './dispatcher.ts'
import { unsubscribeCodes } from './errors.ts'
import { sweepSubscriptions } from './expiry.ts'
import { clientInfo, replyPublication, subscribeReply } from './replies.ts'
import type { Reply } from './schema.ts'
import { SdkSession } from './session.ts'
import type { ReplyEncoder } from './session.ts'
import { drop } from './unsubscribe.ts'

/** ms within which a client must have connected, as in Centrifugo: an idle socket costs as much as a busy one. */
const STALE_TIMEOUT = 10_000
/** Publications in one WebSocket message, as many as Centrifugo joins. */
const MAX_JOINED = 16
/** Bytes of publications in one WebSocket message, unless a single one has more: clients limit its size. */
const MAX_JOINED_BYTES = 65_536

/**
 * The Centrifugal client protocol (centrifugal.dev/docs/transports/client_protocol), in one of its encodings. In this
 * folder a name in brackets, such as [Ping Pong], is a section of that page.
 */
export class SdkProtocol implements ReplyEncoder {
  readonly name: Codec['name']
  readonly index: number
  readonly closes = sdkCloseCodes
  readonly #codec: Codec
  readonly #context: Context
  readonly #instance: Instance
  readonly #dispatcher: Dispatcher
  readonly #ping: Frame

  constructor (codec: Codec, context: Context, instance: Instance, metrics: Metrics) {
    this.name = codec.name
    this.index = codec.index
    this.#codec = codec
    this.#context = context
    this.#instance = instance
    this.#dispatcher = new Dispatcher(codec, context, metrics)
    this.#ping = this.frame({})
  }

  frame (reply: Reply): Frame {
    return { payload: this.#codec.encode(reply), binary: this.#codec.binary }
  }

  opened (connection: Connection, identity: Identity | undefined, request: FastifyRequest): void {
    connection.session = new SdkSession(connection, this, request, identity)
    connection.closeAt(Date.now() + STALE_TIMEOUT, sdkOnlyCloseCodes.stale)
    connection.hold()
  }

  handle (connection: Connection, data: Buffer, binary: boolean): Promise<void> {
    return this.#dispatcher.handle(connection.session!, data, binary)
  }

  ping (connection: Connection): void {
    if (connection.session?.nativePing) connection.nativePing()
    else connection.write(this.#ping)
  }

  sweep (connection: Connection, now: number): void {
    if (connection.session !== undefined) sweepSubscriptions(this.#context, connection.session, now)
  }

  publication (channel: string, publication: Publication): Frame {
    return this.frame({ push: { channel, pub: replyPublication(publication) } })
  }

  /** Joins publications into as few WebSocket messages as clients take [Top level batching]. */
  join (frames: readonly Frame[]): readonly Frame[] {
    const joined: Frame[] = []
    for (let from = 0; from < frames.length;) {
      const to = endOfMessage(frames, from)
      joined.push(to - from === 1 ? frames[from]! : this.#joined(frames.slice(from, to)))
      from = to
    }
    return joined
  }

  #joined (frames: readonly Frame[]): Frame {
    return { payload: this.#codec.join(frames.map(({ payload }) => payload)), binary: this.#codec.binary }
  }

  event (channel: string, { kind, payload }: Publication): Frame {
    return this.frame({ push: { channel, [kind]: { info: clientInfo(JSON.parse(payload.toString())) } } })
  }

  message (data: unknown): Frame {
    return this.frame({ push: { message: { data: encodePayload(data) } } })
  }

  goodbye (): undefined {}

  /** Tells the client of a server-side subscription: in the reply to connect, or later by a push. */
  subscribed (connection: Connection, channel: string, joining: Joining): SubscribeResult {
    const session = connection.session!
    const { joinLeave } = this.#context.rules(channel)
    session.subscriptions.set(channel, { serverSide: true, joinLeave, info: undefined, expiresAt: Infinity, refreshable: false })
    if (session.phase !== 'connected') {
      session.deferred.set(channel, joining)
      return {}
    }
    const caughtUp = joining.admit()
    /* c8 ignore next 4 -- needs a gap at the very moment of this call; connect and subscribe, where it can be provoked, are tested */
    if (caughtUp === undefined) {
      connection.end(sdkOnlyCloseCodes.insufficientState)
      return {}
    }
    const { recoverable = false, positioned = false, epoch = '', offset = 0 } = subscribeReply(caughtUp, false)
    session.push({ channel, subscribe: { recoverable, positioned, epoch, offset } })
    session.pushAll(channel, [...caughtUp.missed, ...caughtUp.live])
    this.#instance.joined(connection, channel)
    if (joining.since === undefined) return {}
    this.#instance.recovery(caughtUp.recovered)
    return { recovered: caughtUp.recovered, offset: topOf(caughtUp), epoch }
  }

  unsubscribed (connection: Connection, channel: string): void {
    connection.session?.subscriptions.delete(channel)
    connection.session?.push({ channel, unsubscribe: unsubscribeCodes.server })
  }

  /** Makes the client subscribe again and recover what it can. For a server-side subscription it must connect again. */
  renewed (connection: Connection, channel: string): void {
    const { session } = connection
    const subscription = session?.subscriptions.get(channel)
    if (session === undefined || subscription === undefined) return
    if (subscription.serverSide) return connection.end(sdkOnlyCloseCodes.insufficientState)
    drop(this.#context, session, channel, unsubscribeCodes.insufficientState)
  }
}

/** Index after the last frame that fits into one message with the one at `from`. */
function endOfMessage (frames: readonly Frame[], from: number): number {
  const last = Math.min(frames.length, from + MAX_JOINED)
  let to = from + 1
  for (let size = frames[from]!.payload.length; to < last; to++) {
    size += frames[to]!.payload.length
    if (size > MAX_JOINED_BYTES) break
  }
  return to
}
