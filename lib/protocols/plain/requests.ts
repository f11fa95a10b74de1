import type { Connection } from '../../core/connection.ts'
import { checkKeys, isSuspect, MAX_DEPTH } from '../../model/client-json.ts'
import { clientErrors } from '../../model/error-replies.ts'
import { ConnectionClosedError, RequestLimitError, RequestRefusedError, RequestTimeoutError } from '../../model/errors.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Deadlines, Expiring } from '../../util/deadlines.ts'
import { isDeeperThan } from '../../util/nesting.ts'
import { commandNames } from './context.ts'
import { jsonField } from './json-field.ts'

/** Requests of one connection that wait for an answer, and as many whose answer may still come late. */
const MAX_PENDING = 64
/** Starts the ids of requests, so that only what may be an answer is parsed. */
const ID_PREFIX = 'server-'
const MAX_MESSAGE = 255

interface Pending extends Expiring {
  readonly method: string
  answer (result: unknown): void
  fail (error: Error): void
}

/** What the app has asked one client. Its answers overtake messages that wait for their turn. */
export class Requests {
  readonly #connection: Connection
  readonly #deadlines: Deadlines
  readonly #pending = new Map<string, Pending>()
  /** Ids of requests that nobody waits for any more. Their answers are ignored. */
  readonly #overdue = new Set<string>()
  readonly #take = (data: Buffer, binary: boolean): boolean => !binary && this.#isAnswer(data)
  #asked = 0

  constructor (connection: Connection, deadlines: Deadlines) {
    this.#connection = connection
    this.#deadlines = deadlines
  }

  /** @throws FST_CRWS_REQUEST_LIMIT, FST_CRWS_REQUEST_TIMEOUT, FST_CRWS_REQUEST_REFUSED, FST_CRWS_CONNECTION_CLOSED */
  ask (method: string, data: unknown, timeout: number): Promise<unknown> {
    if (this.#pending.size >= MAX_PENDING) throw new RequestLimitError(this.#connection.id, MAX_PENDING)
    const id = `${ID_PREFIX}${++this.#asked}`
    const field = data === undefined ? '' : `,${jsonField('data', encodePayload(data))}`
    const text = `{"id":"${id}","method":${JSON.stringify(method)}${field}}`
    return new Promise((resolve, reject) => {
      const request = {
        method,
        expiresAt: Date.now() + timeout,
        answer: resolve,
        fail: reject,
        expire: () => {
          this.#pending.delete(id)
          this.#awaitLate(id)
          reject(new RequestTimeoutError(method, timeout))
        }
      }
      this.#pending.set(id, request)
      this.#deadlines.add(request)
      this.#connection.inbox.expectAnswers(this.#take)
      this.#connection.write({ payload: Buffer.from(text), binary: false })
    })
  }

  closed (): void {
    for (const request of this.#pending.values()) {
      this.#deadlines.delete(request)
      request.fail(new ConnectionClosedError(this.#connection.id))
    }
    this.#pending.clear()
  }

  #awaitLate (id: string): void {
    this.#overdue.add(id)
    if (this.#overdue.size <= MAX_PENDING) return
    const [oldest] = this.#overdue
    this.#overdue.delete(oldest!)
  }

  /** Whatever a client sends, it can only answer what it was asked. */
  #isAnswer (data: Buffer): boolean {
    if (!data.includes(ID_PREFIX)) return false
    const text = data.toString()
    const message = parsed(text)
    if (typeof message?.id !== 'string' || commandNames.some(name => (message[name] ?? null) !== null)) return false
    const { id } = message
    const request = this.#pending.get(id)
    if (request === undefined && !this.#overdue.delete(id)) return false
    this.#pending.delete(id)
    if (this.#pending.size + this.#overdue.size === 0) this.#connection.inbox.expectAnswers(undefined)
    if (request === undefined) return true
    this.#deadlines.delete(request)
    const error = errorOf(message, isSuspect(text))
    if (error === undefined) request.answer(message.result)
    else request.fail(new RequestRefusedError(request.method, error))
    return true
  }
}

function parsed (text: string): { [field: string]: unknown, id?: unknown, result?: unknown, error?: unknown } | undefined {
  try {
    return Object(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** The error that a client has answered with, or that its answer is. */
function errorOf (
  { result, error }: { result?: unknown, error?: unknown }, suspect: boolean
): { code: number, message: string } | undefined {
  if (error !== undefined && error !== null) {
    const { code, message } = Object(error) as { code?: unknown, message?: unknown }
    return {
      code: Number.isSafeInteger(code) ? code as number : clientErrors.internal.code,
      message: typeof message === 'string' ? message.slice(0, MAX_MESSAGE) : 'error'
    }
  }
  try {
    if (suspect) checkKeys(result)
    if (!isDeeperThan(MAX_DEPTH, result)) return undefined
    return { ...clientErrors.badRequest, message: 'bad request: the answer is nested too deep' }
  } catch {
    return { ...clientErrors.badRequest, message: 'bad request: the answer has a key that changes the prototype of objects' }
  }
}
