import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { EXPECTED } from '../../observability/logs.ts'
import type { Metrics } from '../../observability/metrics.ts'
import type { Answer, LateAnswer } from './answer.ts'
import type { Codec } from './codec.ts'
import { commandNames, commands } from './commands.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import type { ErrorReply } from './errors.ts'
import type { Command, CommandName } from './schema.ts'
import type { SdkSession } from './session.ts'

/** ms that a client whose connect was refused has to close. */
const REFUSED_LINGER = 5_000
/** Codes of errors that the app throws for its client (centrifugal.dev/docs/server/codes). */
const MIN_APP_CODE = 400
const MAX_APP_CODE = 1_999

/** Handles the commands of SDK connections and replies to them, for one encoding. */
export class Dispatcher {
  readonly #codec: Codec
  readonly #context: Context
  readonly #metrics: Metrics

  constructor (codec: Codec, context: Context, metrics: Metrics) {
    this.#codec = codec
    this.#context = context
    this.#metrics = metrics
  }

  /** Handles one WebSocket message: one command or several [Top level batching]. The next one waits for the promise. */
  async handle (session: SdkSession, data: Buffer, binary: boolean): Promise<void> {
    const { connection } = session
    const list = this.#decode(data, binary)
    const refused = session.phase === 'failed'
    if (list.length === 0 || refused) return connection.end(sdkOnlyCloseCodes.badRequest)
    for (const command of list) {
      if (!connection.open || session.phase === 'failed') return
      await this.#dispatch(session, command)
    }
  }

  /** An empty list for a frame that is not one of the protocol: the client is told by the close code. */
  #decode (data: Buffer, binary: boolean): Command[] {
    try {
      return binary === this.#codec.binary ? this.#codec.decode(data) : []
    } catch {
      return []
    }
  }

  /** Returns the promise for which the next command waits. */
  #dispatch (session: SdkSession, command: Command): Promise<void> | undefined {
    const { connection, phase } = session
    const { id = 0 } = command
    const name = commandNames.find(one => command[one] !== undefined)
    // Only `send` has no id [Command-Reply]. Any other command without one is the answer to a ping, whatever is in it.
    const isPong = id === 0 && name !== 'send'
    // `connect` comes first, and once; after a refused one the client has to close.
    if (phase !== 'connected' && (isPong || name !== 'connect')) return this.#disconnect(session)
    if (isPong) return this.#pong(session)
    if (name === undefined) return this.#disconnect(session)
    if (!connection.take()) return this.#refuse(session, id, clientErrors.tooManyRequests)
    const handled = this.#run(session, id, name, command[name])
    return commands[name].ordered ? handled : undefined
  }

  #disconnect ({ connection }: SdkSession): undefined {
    connection.end(sdkOnlyCloseCodes.badRequest)
  }

  /** One answer to each ping is free; more of them cost as much as any command. */
  #pong (session: SdkSession): undefined {
    const now = Date.now()
    if (now < session.freePongAt) session.connection.take()
    else session.freePongAt = now + this.#context.options.heartbeat.interval / 2
  }

  /** Resolves when the next command may be handled. Never rejects. */
  async #run (session: SdkSession, id: number, name: CommandName, request: unknown): Promise<void> {
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      const { turnOf, pipelined = 0 } = commands[name]
      if (turnOf !== undefined) {
        const channel = turnOf(request as never)
        await session.connection.inTurn(channel, async () => this.#reply(session, id, name, await this.#handle(session, name, request)))
      } else {
        const answer = await this.#handle(session, name, request)
        if (isAcknowledged(answer)) {
          const replied = this.#replyAfterwards(session, id, name, answer, startedAt)
          return ++session.publishing < pipelined ? undefined : await replied
        }
        this.#reply(session, id, name, answer)
      }
    } catch (error) {
      errorType = this.#failed(session, id, name, error)
    }
    this.#metrics.commandDone(name, performance.now() - startedAt, errorType)
  }

  #handle (session: SdkSession, name: CommandName, request: unknown): Promise<Answer | LateAnswer | undefined> {
    return commands[name].handle(this.#context, session, request as never)
  }

  /** Writes the reply. Synchronous from a late answer to what follows the reply, so that nothing comes between. */
  #reply ({ connection, encoder }: SdkSession, id: number, name: CommandName, given: Answer | LateAnswer | undefined): void {
    const answer = typeof given === 'function' ? given() : given
    if (answer === undefined) return
    const frame = encoder.frame({ id, [name]: answer.result })
    if (name === 'connect') connection.release(frame)
    else connection.write(frame)
    answer.after?.()
  }

  async #replyAfterwards (session: SdkSession, id: number, name: CommandName, answer: Acknowledged, startedAt: number): Promise<void> {
    let errorType: string | undefined
    try {
      await answer.acknowledged
      this.#reply(session, id, name, answer)
    } catch (error) {
      errorType = this.#failed(session, id, name, error)
    }
    session.publishing--
    this.#metrics.commandDone(name, performance.now() - startedAt, errorType)
  }

  /** Replies with the error, or ends the connection. Returns the type of the error for the metric. */
  #failed (session: SdkSession, id: number, name: CommandName, error: unknown): string {
    const { connection } = session
    if (error instanceof DisconnectError) {
      connection.end(error.end)
      return 'disconnect'
    }
    const reply = this.#errorReply(session, error)
    if (name === 'connect') {
      session.phase = 'failed'
      connection.closeAt(Date.now() + REFUSED_LINGER, 'expired')
      connection.release(session.encoder.frame({ id, error: reply }))
    } else {
      this.#refuse(session, id, reply)
    }
    return String(reply.code)
  }

  /** Sends errors for the client as they are. Others are faults of the app or this package: logged, and sent as 100. */
  #errorReply ({ connection }: SdkSession, error: unknown): ErrorReply {
    if (error instanceof ReplyError) return error.reply
    const { code, message } = (error ?? {}) as { code?: unknown, message?: string }
    const known = Object.values(clientErrors).find(one => one.code === code)
    if (known !== undefined) return known
    if (isAppCode(code)) return { code, message: message || 'error' }
    if (code === 'FST_CRWS_INVALID_CHANNEL') return clientErrors.badRequest
    if (code === 'FST_CRWS_UNRECOVERABLE_POSITION') return clientErrors.unrecoverablePosition
    if (!EXPECTED.has(code as string)) this.#context.instance.logs.failed(connection, error)
    return clientErrors.internal
  }

  #refuse ({ connection, encoder }: SdkSession, id: number, error: ErrorReply): undefined {
    if (id !== 0) connection.write(encoder.frame({ id, error }))
    else if (error === clientErrors.internal) connection.end('internalError') // a `send` has no reply that could tell
  }
}

type Acknowledged = Answer & Required<Pick<Answer, 'acknowledged'>>

function isAcknowledged (answer: Answer | LateAnswer | undefined): answer is Acknowledged {
  return typeof answer === 'object' && answer.acknowledged !== undefined
}

function isAppCode (code: unknown): code is number {
  return typeof code === 'number' && Number.isInteger(code) && code >= MIN_APP_CODE && code <= MAX_APP_CODE
}
