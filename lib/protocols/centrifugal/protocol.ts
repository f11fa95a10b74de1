import type { FastifyRequest } from 'fastify'
import { topOf } from '../../hub/catch-up.ts'
import { clientErrors, DisconnectError, ReplyError, unsubscribeCodes } from './errors.ts'
import type { ErrorReply } from './errors.ts'
import type { Command, Reply } from './schema.ts'
import { sdkCloseCodes, sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Codec } from './codec.ts'
import { commandNames } from './commands.ts'
import type { CommandName, Commands } from './commands.ts'
import type { Connection, SubscribeResult } from '../../core/connection.ts'
import type { Instance } from '../../core/connections.ts'
import type { Joining } from '../../hub/joining.ts'
import { ALREADY_REPORTED } from '../../observability/logs.ts'
import type { Observer } from '../../observability/observer.ts'
import type { Identity } from '../../options/options.ts'
import type { Frame, Protocol } from '../../core/protocol.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Publication } from '../../model/publication.ts'
import { clientInfo, replyPublication, subscribeReply } from './replies.ts'
import { SdkSession } from './session.ts'

/** ms within which a client must have connected: an idle socket costs as much as a busy one. */
const STALE_TIMEOUT = 10_000
/** ms that a client whose connect was refused has to close. */
const REFUSED_LINGER = 5_000
/** Publications in one message, as many as Centrifugo joins. */
const MAX_JOINED = 16
/** And bytes of them, unless one alone has more. */
const MAX_JOINED_BYTES = 65_536
/** What the next command of a connection waits for. All others may overlap, but subscribes, unsubscribes and publishes of one channel take turns. */
const ORDERED = new Set<CommandName>(['connect', 'publish', 'send'])

/** The Centrifugal client protocol (centrifugal.dev/docs/transports/client_protocol), in one of its encodings. */
export class SdkProtocol implements Protocol {
  readonly name: Codec['name']
  readonly index: number
  readonly closes = sdkCloseCodes
  readonly #codec: Codec
  readonly #commands: Commands
  readonly #instance: Instance
  readonly #observer: Observer
  readonly #ping: Frame

  constructor (codec: Codec, commands: Commands, instance: Instance, observer: Observer) {
    this.name = codec.name
    this.index = codec.index
    this.#codec = codec
    this.#commands = commands
    this.#instance = instance
    this.#observer = observer
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

  async handle (connection: Connection, data: Buffer, binary: boolean): Promise<void> {
    const { session } = connection
    const list = this.#decode(data, binary)
    const refused = session?.phase === 'failed'
    if (session === undefined || list.length === 0 || refused) return connection.end(sdkOnlyCloseCodes.badRequest)
    for (const command of list) {
      if (!connection.open || session.phase === 'failed') return
      await this.#dispatch(session, command)
    }
  }

  ping (connection: Connection): void {
    if (connection.session?.nativePing) connection.nativePing()
    else connection.write(this.#ping)
  }

  sweep (connection: Connection, now: number): void {
    if (connection.session !== undefined && now >= connection.session.nextExpiry) this.#commands.expire(connection.session, now)
  }

  publication (channel: string, publication: Publication): Frame {
    return this.frame({ push: { channel, pub: replyPublication(publication) } })
  }

  /** Clients limit the size of a message. */
  join (frames: readonly Frame[]): readonly Frame[] {
    const joined: Frame[] = []
    for (let from = 0; from < frames.length;) {
      const to = endOfMessage(frames, from)
      joined.push(to - from === 1 ? frames[from]! : { payload: this.#codec.join(frames.slice(from, to).map(({ payload }) => payload)), binary: this.#codec.binary })
      from = to
    }
    return joined
  }

  event (channel: string, { kind, payload }: Publication): Frame {
    return this.frame({ push: { channel, [kind]: { info: clientInfo(JSON.parse(payload.toString())) } } })
  }

  message (data: unknown): Frame {
    return this.frame({ push: { message: { data: encodePayload(data) } } })
  }

  goodbye (): undefined {}

  /** A server-side subscription: with the reply to connect, or by a push. */
  subscribed (connection: Connection, channel: string, joining: Joining): SubscribeResult {
    const session = connection.session!
    const { joinLeave } = this.#commands.rules(channel)
    session.subscriptions.set(channel, { serverSide: true, joinLeave, info: undefined, expiresAt: Infinity, refreshable: false })
    if (session.phase !== 'connected') {
      session.deferred.set(channel, joining)
      return {}
    }
    const caughtUp = joining.admit()
    /* c8 ignore next 4 -- a publication would have to be lost in the very moment of this call; connect and subscribe, where it can be provoked, are tested */
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

  /** The client subscribes again and recovers what can be recovered; where the host has subscribed it, it connects again. */
  renewed (connection: Connection, channel: string): void {
    const { session } = connection
    const subscription = session?.subscriptions.get(channel)
    if (session === undefined || subscription === undefined) return
    if (subscription.serverSide) return connection.end(sdkOnlyCloseCodes.insufficientState)
    this.#commands.drop(session, channel, unsubscribeCodes.insufficientState)
  }

  #decode (data: Buffer, binary: boolean): Command[] {
    try {
      return binary === this.#codec.binary ? this.#codec.decode(data) : []
    } catch {
      return [] // whatever is wrong with it, it is not the protocol; the client is told
    }
  }

  #dispatch (session: SdkSession, command: Command): Promise<void> | undefined {
    const { connection, phase } = session
    const { id = 0 } = command
    const name = commandNames.find(one => command[one] !== undefined)
    const isPong = id === 0 && name !== 'send'
    if (phase !== 'connected' && (isPong || name !== 'connect')) return this.#disconnect(connection)
    if (isPong) return this.#pong(session)
    if (name === undefined) return this.#disconnect(connection)
    if (!connection.take()) return this.#answer(session, id, clientErrors.tooManyRequests)
    if (!ORDERED.has(name)) {
      this.#run(session, id, name, command, () => {})
      return
    }
    return new Promise(resolve => { this.#run(session, id, name, command, resolve).then(resolve) })
  }

  /** One answer to each ping is free; more of them cost as much as any command. */
  #pong (session: SdkSession): undefined {
    const now = Date.now()
    if (now < session.freePongAt) session.connection.take()
    else session.freePongAt = now + this.#instance.options.heartbeat.interval / 2
  }

  /** `next` is called when the next command may begin, at the latest when this one is over. */
  async #run (session: SdkSession, id: number, name: CommandName, command: Command, next: () => void): Promise<void> {
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      await this.#commands[name](session, command[name] as never, (result: object) => {
        const frame = this.frame({ id, [name]: result })
        if (name === 'connect') session.connection.release(frame)
        else session.connection.write(frame)
      }, next)
    } catch (error) {
      errorType = this.#failed(session, id, name, error)
    }
    if (this.#observer.recording) this.#observer.commandDone(name, performance.now() - startedAt, errorType)
  }

  /** Answers what went wrong; the type of the error for the metric. */
  #failed (session: SdkSession, id: number, name: CommandName, error: unknown): string {
    const { connection } = session
    if (error instanceof DisconnectError) {
      connection.end(error.end)
      return 'disconnect'
    }
    const reply = this.#replyTo(connection, error)
    if (name === 'connect') {
      session.phase = 'failed'
      connection.closeAt(Date.now() + REFUSED_LINGER, 'expired')
      connection.release(this.frame({ id, error: reply }))
    } else {
      this.#answer(session, id, reply)
    }
    return String(reply.code)
  }

  /** Errors that are meant for the client have a code of its kind; all others are ours or the host's, and no business of the client's. */
  #replyTo (connection: Connection, error: unknown): ErrorReply {
    if (error instanceof ReplyError) return error.reply
    const { code, message } = (error ?? {}) as { code?: unknown, message?: string }
    const known = Object.values(clientErrors).find(one => one.code === code)
    if (known !== undefined) return known
    if (typeof code === 'number' && Number.isInteger(code) && code >= 400 && code < 2_000) return { code, message: message || 'error' }
    if (code === 'FST_CRWS_INVALID_CHANNEL') return clientErrors.badRequest
    if (code === 'FST_CRWS_UNRECOVERABLE_POSITION') return clientErrors.unrecoverablePosition
    if (!ALREADY_REPORTED.has(code as string)) this.#observer.failed(connection, error)
    return clientErrors.internal
  }

  #answer ({ connection }: SdkSession, id: number, error: ErrorReply): undefined {
    if (id !== 0) connection.write(this.frame({ id, error }))
    else if (error === clientErrors.internal) connection.end('internalError') // there is no other way to tell
  }

  #disconnect (connection: Connection): undefined {
    connection.end(sdkOnlyCloseCodes.badRequest)
  }
}

/** Index of the first frame that does not go into one message with this one and those between. */
function endOfMessage (frames: readonly Frame[], from: number): number {
  const last = Math.min(frames.length, from + MAX_JOINED)
  let to = from + 1
  for (let size = frames[from]!.payload.length; to < last; to++) {
    size += frames[to]!.payload.length
    if (size > MAX_JOINED_BYTES) break
  }
  return to
}
