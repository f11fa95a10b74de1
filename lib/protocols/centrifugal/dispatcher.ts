import { ClientError, replyFor } from '../../model/client-error.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors } from '../../model/error-replies.ts'
import type { ErrorReply } from '../../model/error-replies.ts'
import { ALREADY_REPORTED } from '../../model/errors.ts'
import { readable } from '../../util/thrown.ts'
import { commandNames, handlers, isOrdered } from './commands.ts'
import type { Context } from './context.ts'
import type { SdkEncoder } from './encoder.ts'
import { DisconnectError } from './errors.ts'
import { endExpired } from './expiry.ts'
import { handlerOf } from './handler-names.ts'
import { explain, tooFast } from './refusals.ts'
import { isUsable } from './requests.ts'
import type { Command, CommandData, CommandName } from './schema.ts'
import type { SdkSession, SdkSessionOwner } from './session.ts'

/** Milliseconds that a client whose connect was refused has to close. */
const REFUSED_LINGER = 5_000
/** Commands of one connection that may overlap. The next one waits, and so does all that the client sends after it. */
const MAX_OVERLAPPING = 8
/** Commands whose replies cost what is in them. */
const weighed: ReadonlySet<CommandName> = new Set(['presence', 'history'])

/** Handles the commands of SDK connections and replies to them, for one encoding. */
export class Dispatcher implements SdkSessionOwner {
  readonly encoder: SdkEncoder
  readonly context: Context

  constructor (encoder: SdkEncoder, context: Context) {
    this.encoder = encoder
    this.context = context
  }

  /** Handles one WebSocket message: one command or several [Top level batching]. The next one waits for the promise. */
  async handle (session: SdkSession, data: Buffer, binary: boolean): Promise<void> {
    const { connection } = session
    const list = this.encoder.decode(data, binary)
    const refused = session.phase === 'failed'
    if (list.length === 0) return this.#disconnect(session, `a message is not valid in the ${this.encoder.name} protocol`)
    if (refused) return this.#disconnect(session, 'a command came after connect was refused')
    for (const command of list) {
      if (!connection.open || session.phase === 'failed') return
      await this.#dispatch(session, command)
    }
  }

  expire (session: SdkSession, now: number): void {
    endExpired(session, now)
  }

  /** Returns the promise that the next command waits for; undefined if it need not wait. */
  #dispatch (session: SdkSession, command: Command): Promise<void> | undefined {
    const { connection, phase } = session
    const { id = 0 } = command
    const name = commandNames.find(one => command[one] !== undefined)
    // Only `send` has no id [Command-Reply]. Any other command without one is the answer to a ping, whatever is in it.
    const isPong = id === 0 && name !== 'send'
    // `connect` comes first, and once; after a refused one the client has to close.
    if (phase !== 'connected' && (isPong || name !== 'connect')) return this.#disconnect(session, 'the first command is not connect')
    if (isPong) return this.#pong(session)
    if (name === undefined) return this.#disconnect(session, 'a command has an id and nothing else')
    const { inbox } = connection
    if (!inbox.take() || (weighed.has(name) && !inbox.takeRead())) return this.#tooFast(session, id, name, command[name])
    if (isOrdered(this.context, name, command)) {
      return new Promise(resolve => { this.#run(session, id, name, command, resolve).then(resolve) })
    }
    if (session.overlapping >= MAX_OVERLAPPING) return this.#overlapLater(session, id, name, command)
    this.#overlap(session, id, name, command)
  }

  #overlap (session: SdkSession, id: number, name: CommandName, command: Command): void {
    session.overlapping++
    this.#run(session, id, name, command).then(() => session.overlapEnded())
  }

  async #overlapLater (session: SdkSession, id: number, name: CommandName, command: Command): Promise<void> {
    await session.roomForOverlap()
    if (session.connection.open) this.#overlap(session, id, name, command)
  }

  #disconnect ({ connection }: SdkSession, detail: string): undefined {
    connection.end({ ...sdkOnlyCloseCodes.badRequest, detail })
  }

  #tooFast (session: SdkSession, id: number, name: CommandName, request: object | undefined): undefined {
    explain(this.context.observer, session.connection, name, request, tooFast, tooFast.reply)
    this.#replyError(session, id, tooFast.reply)
  }

  /** One answer to each ping is free; more of them cost as much as any command. */
  #pong (session: SdkSession): undefined {
    const now = Date.now()
    if (now < session.freePongAt) session.connection.inbox.take()
    else session.freePongAt = now + this.context.options.heartbeat.interval / 2
  }

  /** Resolves when the command is done. Never rejects. Calls `next` if the next command may start before that. */
  async #run (session: SdkSession, id: number, name: CommandName, command: Command, next?: () => void): Promise<void> {
    const { observer } = this.context
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      try {
        const reply = (result: object) => this.#reply(session, id, name, result)
        await handlers[name](this.context, session, command[name] as never, reply, next)
      } catch (error) {
        errorType = this.#failed(session, id, name, readable(error), command[name])
      }
      if (observer.recording) observer.commandDone(name, performance.now() - startedAt, errorType)
    } catch {
      session.connection.end('internalError') // the app's logger has thrown, or what its handler has thrown
    }
  }

  #reply ({ connection }: SdkSession, id: number, name: CommandName, result: object): void {
    if (!connection.open) return // nobody needs it encoded
    const frame = this.encoder.frame({ id, [name]: result })
    if (weighed.has(name)) connection.inbox.chargeRead(frame.payload.length)
    if (name === 'connect') connection.outbox.release(frame)
    else connection.write(frame)
  }

  /** Replies with the error, or ends the connection. Returns the type of the error for the metric. */
  #failed (session: SdkSession, id: number, name: CommandName, error: unknown, request: object = {}): string {
    const { connection } = session
    const { observer } = this.context
    if (error instanceof DisconnectError) {
      explain(observer, connection, name, request, error, error.end)
      connection.end(error.end)
      return 'disconnect'
    }
    if (error instanceof ClientError && error.closes) {
      connection.disconnect(error.end)
      return 'disconnect'
    }
    const reply = this.#errorReply(session, name, error, request)
    explain(observer, connection, name, request, error, reply)
    if (name === 'connect') {
      session.phase = 'failed'
      connection.closeAt(Date.now() + REFUSED_LINGER, 'expired')
      connection.outbox.release(this.encoder.frame({ id, error: reply }))
    } else {
      this.#replyError(session, id, reply)
    }
    return String(reply.code)
  }

  /** Sends errors for the client with their text. Others are faults of the app or of ours: logged, and sent as 100. */
  #errorReply (session: SdkSession, name: CommandName, error: unknown, request: object = {}): ErrorReply {
    const reply = replyFor(error)
    if (reply !== undefined) return reply
    const { code } = (error ?? {}) as { code?: unknown }
    if (code === 'FST_CRWS_INVALID_CHANNEL') return clientErrors.badRequest
    // Data like this is the client's fault, whichever function failed on it.
    if (!isUsable((request as { data?: CommandData }).data)) {
      if (name === 'send') session.connection.end(sdkOnlyCloseCodes.badRequest) // it has no reply that could tell
      return clientErrors.badRequest
    }
    if (!ALREADY_REPORTED.has(code as string)) {
      this.context.observer.failed(session.connection, error, handlerOf(this.context, session, name, request))
    }
    return clientErrors.internal
  }

  #replyError ({ connection }: SdkSession, id: number, error: ErrorReply): undefined {
    if (id !== 0) connection.write(this.encoder.frame({ id, error }))
    else if (error === clientErrors.internal) connection.end('internalError') // a `send` has no reply that could tell
  }
}
