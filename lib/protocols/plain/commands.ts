import type { Connection } from '../../core/connection.ts'
import { ClientError, replyFor } from '../../model/client-error.ts'
import { checkKeys, isSuspect, MAX_DEPTH } from '../../model/client-json.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { ErrorReply } from '../../model/error-replies.ts'
import { ALREADY_REPORTED } from '../../model/errors.ts'
import { isDeeperThan } from '../../util/nesting.ts'
import { describe, readable } from '../../util/thrown.ts'
import { CommandState } from './command-state.ts'
import { commandNames } from './context.ts'
import type { Command, CommandName, PlainContext } from './context.ts'
import { badRequest, handlers } from './handlers.ts'
import { NO_COMMAND, plainEncoder } from './session.ts'
import type { PlainCommands, PlainSession } from './session.ts'

/** Characters of an id that a client gives. */
const MAX_ID = 255
/** Characters of a channel or method in a log entry. Valid channels have no more, and a client may send any string. */
const MAX_NAME = 255
const tooFast = new ReplyError(clientErrors.tooManyRequests, 'commands come faster than rateLimit.messages allows')

/** A message that has the form of a command. Nothing in it is checked yet. */
interface Message {
  readonly name: CommandName
  readonly fields: Readonly<Record<string, unknown>>
  /** True if a key may change the prototype of objects. */
  readonly suspect: boolean
}

/** Handles the commands of plain clients, in order, and answers them. */
export class Commands implements PlainCommands {
  readonly #context: PlainContext
  readonly #names: readonly CommandName[]
  readonly #notACommand: ErrorReply

  constructor (context: PlainContext) {
    this.#context = context
    const { options: { plain }, methods } = context
    this.#names = commandNames.filter(name => name === 'method' ? methods.any : plain.envelope)
    this.#notACommand = badRequest(`a message must be a JSON object with ${this.#names.join(' or ')}`).reply
  }

  handle (session: PlainSession, data: Buffer, binary: boolean): unknown {
    const { connection } = session
    const text = binary ? '' : data.toString()
    const message = this.#read(text)
    if (message === undefined) {
      if (this.#context.options.onMessage === undefined) return this.#noCommand(session, text)
      const settled = session.commands?.settled()
      if (settled === undefined) return NO_COMMAND
      return settled.then(() => connection.discardsMessages ? undefined : session.handle(data, binary))
    }
    const { fields: { id }, name } = message
    const idOf = isId(id) ? id : undefined
    if (!connection.inbox.take()) return this.#refuse(connection, idOf, name, message.fields[name], tooFast)
    try {
      const command = checked(message)
      session.commands ??= new CommandState(connection)
      return this.#start(session.commands, command)
    } catch (error) {
      this.#refuse(connection, idOf, name, message.fields[name], error as ReplyError)
    }
  }

  /** Returns undefined for what is no command. */
  #read (text: string): Message | undefined {
    const fields = parsed(text)
    const name = fields && this.#names.find(one => Object.hasOwn(fields, one) && fields[one] !== null)
    return name && { name, fields, suspect: isSuspect(text) }
  }

  /** The app takes no other messages. A flood of them is answered once. */
  #noCommand ({ connection }: PlainSession, text: string): undefined {
    const { inbox } = connection
    const { id } = parsed(text) ?? {}
    const inTime = inbox.take()
    if (inTime || inbox.rate?.refused === 1) this.#answer(connection, isId(id) ? id : undefined, inTime ? this.#notACommand : tooFast.reply)
  }

  /** Returns what the next message waits for; undefined if it need not wait. */
  #start (state: CommandState, command: Command): Promise<void> | undefined {
    const { name, target } = command
    const ordering = name === 'subscribe' || name === 'unsubscribe'
    const overlaps = ordering || (name === 'method' && this.#context.methods.concurrent(target))
    const wait = overlaps ? state.room() : state.settled()
    if (wait !== undefined) {
      return wait.then(() => state.connection.discardsMessages ? undefined : this.#start(state, command))
    }
    if (!overlaps) return new Promise(resolve => { this.#run(state, command, resolve).then(resolve) })
    state.overlap(this.#run(state, command, () => {}), ordering)
  }

  /** Resolves when the command is done. Never rejects. Calls `next` if the next message may start before that. */
  async #run (state: CommandState, command: Command, next: () => void): Promise<void> {
    const { observer } = this.#context
    const { connection } = state
    const { id, name } = command
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      try {
        await handlers[name](this.#context, state, command, fields => {
          if (id !== undefined) connection.write({ payload: Buffer.from(`{"id":${JSON.stringify(id)},${fields}}`), binary: false })
        }, next)
      } catch (error) {
        errorType = this.#failed(connection, command, readable(error))
      }
      if (observer.recording) observer.commandDone(name === 'method' ? 'rpc' : name, performance.now() - startedAt, errorType)
    } catch {
      connection.end('internalError') // the app's logger has thrown, or what its handler has thrown
    }
  }

  /** Answers with the error, or ends the connection. Returns the type of the error for the metric. */
  #failed (connection: Connection, { id, name, target, data }: Command, error: unknown): string {
    if (error instanceof ClientError && error.closes) {
      connection.disconnect(error.end)
      return 'disconnect'
    }
    const reply = this.#errorReply(connection, name, target, data, error)
    this.#explain(connection, name, target, reply.code, error instanceof ReplyError ? error.detail : describe(error))
    this.#answer(connection, id, reply)
    return String(reply.code)
  }

  /** Sends errors for the client with their text. Others are faults of the app or of ours: logged, and sent as 100. */
  #errorReply (connection: Connection, name: CommandName, target: string, data: unknown, error: unknown): ErrorReply {
    const reply = replyFor(error)
    if (reply !== undefined) return reply
    const { code } = (error ?? {}) as { code?: string }
    if (code === 'FST_CRWS_INVALID_CHANNEL') return badRequest(describe(error)).reply
    if (isDeeperThan(MAX_DEPTH, data)) return badRequest('the data is nested too deep').reply // whichever function failed on it
    if (!ALREADY_REPORTED.has(code ?? '')) this.#context.observer.failed(connection, error, this.#nameOf(name, target))
    return clientErrors.internal
  }

  /** Names the app's code that a command calls, for the log entry of its failure. */
  #nameOf (name: CommandName, target: string): string {
    const { methods, permissions } = this.#context
    if (name === 'unsubscribe') return name
    return (name === 'method' ? methods.handlerOf(target) : permissions.deciderOf(name, target)) ?? name
  }

  #refuse (connection: Connection, id: Command['id'], name: CommandName, target: unknown, { reply, detail }: ReplyError): undefined {
    this.#explain(connection, name, typeof target === 'string' ? target : undefined, reply.code, detail)
    this.#answer(connection, id, reply)
  }

  /** Writes to the log why a command was refused, while it takes entries of level debug. */
  #explain (connection: Connection, name: CommandName, target: string | undefined, code: number, reason: string): void {
    const { observer } = this.#context
    if (!observer.debugs) return
    const text = target?.slice(0, MAX_NAME)
    const [channel, method] = name === 'method' ? [undefined, text] : [text, undefined]
    observer.refused('command.refused', connection, { command: name, channel, method, code, reason })
  }

  #answer (connection: Connection, id: Command['id'], { code, message }: ErrorReply): void {
    connection.write(plainEncoder.message({ ...(id !== undefined && { id }), error: { code, message } }))
  }
}

/** Returns undefined for what is no JSON object. */
function parsed (text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value as Record<string, unknown> : undefined
  } catch {
    return undefined
  }
}

function isId (id: unknown): id is string | number {
  return Number.isFinite(id) || (typeof id === 'string' && id.length <= MAX_ID)
}

/**
 * Clients in many languages send null in place of a field that is not set: it is absent, except as what is published.
 * @throws ReplyError (107) for a field that is not what it should be.
 */
function checked ({ name, fields, suspect }: Message): Command {
  const [id, since] = [fields.id ?? undefined, fields.since ?? undefined]
  const data = name === 'publish' ? fields.data : fields.data ?? undefined
  if (id !== undefined && !isId(id)) throw badRequest(`id must be a number, or a string of at most ${MAX_ID} characters`)
  const target = fields[name]
  if (typeof target !== 'string') throw badRequest(`${name} must be a string: the name of a ${name === 'method' ? 'method' : 'channel'}`)
  try {
    if (suspect) checkKeys(fields)
  } catch {
    throw badRequest('a key changes the prototype of objects')
  }
  return { id, name, target, data, since }
}
