import type { FastifyRequest } from 'fastify'
import type { Connection } from '../../core/connection.ts'
import type { Protocol } from '../../core/protocol.ts'
import type { Session } from '../../core/session.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { ALREADY_REPORTED } from '../../observability/logs.ts'
import type { Observer } from '../../observability/observer.ts'
import type { Identity } from '../../options/options.ts'
import { commandNames } from './commands.ts'
import type { CommandName, Commands } from './commands.ts'
import type { SdkEncoder } from './encoder.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import type { ErrorReply } from './errors.ts'
import type { Command } from './schema.ts'
import { SdkSession } from './session.ts'

/** ms within which a client must have connected: an idle socket costs as much as a busy one. */
const STALE_TIMEOUT = 10_000
/** ms that a client whose connect was refused has to close. */
const REFUSED_LINGER = 5_000
/** What the next command of a connection waits for. All others may overlap, but subscribes, unsubscribes and publishes of one channel take turns. */
const ORDERED = new Set<CommandName>(['connect', 'publish', 'send'])

/** The Centrifugal client protocol (centrifugal.dev/docs/transports/client_protocol), in one of its encodings. */
export class SdkProtocol implements Protocol {
  readonly encoder: SdkEncoder
  readonly commands: Commands
  readonly #observer: Observer

  constructor (encoder: SdkEncoder, commands: Commands, observer: Observer) {
    this.encoder = encoder
    this.commands = commands
    this.#observer = observer
  }

  open (connection: Connection, identity: Identity | undefined, request: FastifyRequest): Session {
    connection.closeAt(Date.now() + STALE_TIMEOUT, sdkOnlyCloseCodes.stale)
    connection.outbox.hold()
    return new SdkSession(connection, this, request, identity)
  }

  async handle (session: SdkSession, data: Buffer, binary: boolean): Promise<void> {
    const { connection } = session
    const list = this.encoder.decode(data, binary)
    if (list.length === 0 || session.phase === 'failed') return connection.end(sdkOnlyCloseCodes.badRequest)
    for (const command of list) {
      if (!connection.open || session.hasFailed) return
      await this.#dispatch(session, command)
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
    if (!connection.inbox.take()) return this.#answer(session, id, clientErrors.tooManyRequests)
    if (!ORDERED.has(name)) {
      this.#run(session, id, name, command, () => {})
      return
    }
    return new Promise(resolve => { this.#run(session, id, name, command, resolve).then(resolve) })
  }

  /** One answer to each ping is free; more of them cost as much as any command. */
  #pong (session: SdkSession): undefined {
    const now = Date.now()
    if (now < session.freePongAt) session.connection.inbox.take()
    else session.freePongAt = now + this.commands.options.heartbeat.interval / 2
  }

  /** `next` is called when the next command may begin, at the latest when this one is over. */
  async #run (session: SdkSession, id: number, name: CommandName, command: Command, next: () => void): Promise<void> {
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      await this.commands[name](session, command[name] as never, (result: object) => {
        const frame = this.encoder.frame({ id, [name]: result })
        if (name === 'connect') session.connection.outbox.release(frame)
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
      connection.outbox.release(this.encoder.frame({ id, error: reply }))
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
    if (id !== 0) connection.write(this.encoder.frame({ id, error }))
    else if (error === clientErrors.internal) connection.end('internalError') // there is no other way to tell
  }

  #disconnect (connection: Connection): undefined {
    connection.end(sdkOnlyCloseCodes.badRequest)
  }
}
