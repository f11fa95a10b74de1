import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers'
import { inspect } from 'node:util'
import { WebSocket } from 'ws'
import { checkFields } from '../model/arguments.ts'
import { encodePayload } from '../model/publication.ts'
import { ClosedBeforeMessageError, commandRefused, NoMessageError, NotJsonError, parsed, upgradeRefused } from './errors.ts'
import { connectTo } from './loopback.ts'
import type { TestedApp } from './loopback.ts'

/** Milliseconds that `next` waits. */
const PATIENCE = 2_000
/** Messages that an error shows. */
const SHOWN = 5

/** Which upgrade a test client sends. */
export interface TestClientOptions {
  /** @default '/ws' */
  path?: string | undefined
  /** Such as `cookie`, `authorization` or `origin`. @default none */
  headers?: Readonly<Record<string, string>> | undefined
  /** Parameters after the path. @default none */
  query?: Readonly<Record<string, string>> | undefined
}

const OPTION_FIELDS: readonly (keyof TestClientOptions)[] = ['path', 'headers', 'query']

/** How a socket was closed. */
export interface TestClientEnd {
  /** 1006: it ended without a close frame. */
  readonly code: number
  readonly reason: string
}

/** A client of the plain route that misses no message. */
export interface TestClient extends AsyncDisposable {
  /** All messages so far, also those that `next` has returned: strings, and Buffers where they were binary. */
  readonly messages: ReadonlyArray<string | Buffer>
  /** Resolves when the socket is closed. Never rejects. */
  readonly closed: Promise<TestClientEnd>
  /**
   * Returns the oldest message that was not returned yet, and waits for it if need be.
   * @param timeout Milliseconds, of the real time. `@default` 2_000
   * @throws FST_CRWS_TEST_CLOSED, FST_CRWS_TEST_NO_MESSAGE
   */
  next (timeout?: number): Promise<string | Buffer>
  /**
   * The same, parsed as JSON.
   * @throws as `next`; FST_CRWS_TEST_NOT_JSON
   */
  nextJson<T = unknown> (timeout?: number): Promise<T>
  /**
   * Sends a command of the plain protocol, such as `{ subscribe: 'news' }` or `{ method: 'add', data }`, with an id of
   * its own. Returns the `result` of the answer, which `next` does not return.
   * @param timeout Milliseconds, of the real time. `@default` 2_000
   * @throws CommandRefusedError with `reply`, FST_CRWS_TEST_CLOSED, FST_CRWS_TEST_NO_MESSAGE
   */
  ask<T = any> (command: object, timeout?: number): Promise<T>
  /**
   * Answers what the app asks with `connection.request(method)`: with what the function returns, or with error 1 and
   * the message of what it throws. `next` does not return such a request.
   */
  answer (method: string, answer: (data: unknown) => unknown): void
  /** Sends a string as it is, a Buffer as a binary message, anything else as JSON. */
  send (data: unknown): void
  /** Closes the socket, and resolves as `closed` does. */
  close (code?: number, reason?: string): Promise<TestClientEnd>
}

/**
 * Opens a WebSocket to an app that need not listen. Resolves when the server has accepted it.
 * @throws UpgradeRefusedError, with `statusCode`, `headers` and `body`
 */
export async function testClient (app: TestedApp, options: TestClientOptions = {}): Promise<TestClient> {
  checkFields('options of testClient', options, OPTION_FIELDS)
  const { path = '/ws', headers = {}, query } = options
  const url = query === undefined ? path : `${path}${path.includes('?') ? '&' : '?'}${new URLSearchParams(query)}`
  const socket = new WebSocket(`ws://localhost${url}`, { headers: { ...headers }, createConnection: () => connectTo(app) })
  const client = new SocketTestClient(socket)
  await new Promise<void>((resolve, reject) => {
    socket.on('open', resolve).on('error', reject).on('unexpected-response', (_request, response) => {
      text(response).then(body => {
        reject(upgradeRefused(path, response.statusCode ?? 0, response.headers, body))
        socket.terminate() // with a listener for this event `ws` leaves it to us
      }, reject)
    })
  })
  return client
}

class SocketTestClient implements TestClient {
  readonly messages: Array<string | Buffer> = []
  readonly closed: Promise<TestClientEnd>
  readonly #socket: WebSocket
  /** Those that `next` has not returned. */
  readonly #unread: Array<string | Buffer> = []
  /** Calls of `ask` that wait, by id. */
  readonly #asked = new Map<string, { command: string, resolve: (result: any) => void, reject: (error: Error) => void }>()
  readonly #answers = new Map<string, (data: unknown) => unknown>()
  #commands = 0
  #end: TestClientEnd | undefined
  /** Calls of `next` that wait, in their order. The first is called when there may be a message for it. */
  readonly #waiting: Array<() => void> = []

  constructor (socket: WebSocket) {
    this.#socket = socket
    socket.on('message', (data: Buffer, binary) => {
      const message = binary ? data : data.toString()
      this.messages.push(message)
      if (this.#isAnswerOrRequest(message)) return
      this.#unread.push(message)
      this.#wake()
    })
    this.closed = new Promise(resolve => {
      socket.on('close', (code, reason) => {
        resolve(this.#end = { code, reason: reason.toString() })
        for (const { reject } of this.#asked.values()) reject(this.#closedBefore(this.#end))
        this.#wake()
      })
    })
  }

  async next (timeout = PATIENCE): Promise<string | Buffer> {
    let late = false
    let wake = () => {}
    const call = () => wake()
    const timer = setTimeout(() => { late = true; wake() }, timeout)
    this.#waiting.push(call)
    try {
      for (;;) {
        if (this.#waiting[0] === call) {
          if (this.#unread.length > 0) return this.#unread.shift()!
          if (this.#end !== undefined) throw this.#closedBefore(this.#end)
        }
        if (late) throw new NoMessageError(timeout, this.#received())
        await new Promise<void>(resolve => { wake = resolve })
      }
    } finally {
      clearTimeout(timer)
      this.#waiting.splice(this.#waiting.indexOf(call), 1)
      this.#wake()
    }
  }

  async nextJson<T> (timeout?: number): Promise<T> {
    const message = await this.next(timeout)
    try {
      return JSON.parse(message.toString())
    } catch {
      throw new NotJsonError(inspect(message))
    }
  }

  async ask<T> (command: object, timeout = PATIENCE): Promise<T> {
    if (this.#end !== undefined) throw this.#closedBefore(this.#end)
    const id = `test-${++this.#commands}`
    let timer: NodeJS.Timeout | undefined
    const answer = new Promise<T>((resolve, reject) => {
      this.#asked.set(id, { command: JSON.stringify(command), resolve, reject })
      timer = setTimeout(() => reject(new NoMessageError(timeout, this.#received())), timeout)
    })
    try {
      this.send({ id, ...command })
      return await answer
    } finally {
      clearTimeout(timer)
      this.#asked.delete(id)
    }
  }

  answer (method: string, answer: (data: unknown) => unknown): void {
    this.#answers.set(method, answer)
  }

  send (data: unknown): void {
    const { kind, payload } = encodePayload(data)
    this.#socket.send(payload, { binary: kind === 'binary' })
  }

  close (code = 1000, reason = ''): Promise<TestClientEnd> {
    this.#socket.close(code, reason)
    return this.closed
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.close()
  }

  /** Takes what `ask` waits for, and what `answer` answers. */
  #isAnswerOrRequest (text: string | Buffer): boolean {
    if ((this.#asked.size === 0 && this.#answers.size === 0) || typeof text !== 'string' || !text.startsWith('{')) return false
    const { id, method, data, result, error } = parsed(text) as Record<string, any>
    const asked = this.#asked.get(id)
    const answer = this.#answers.get(method)
    if (asked !== undefined) {
      if (error === undefined) asked.resolve(result)
      else asked.reject(commandRefused(asked.command, error))
    } else if (answer !== undefined) {
      new Promise(resolve => { resolve(answer(data)) }).then(result => ({ id, result }), (thrown: Error) => {
        return { id, error: { code: 1, message: thrown.message } }
      }).then(message => this.send(message))
    }
    return asked !== undefined || answer !== undefined
  }

  #closedBefore ({ code, reason }: TestClientEnd): Error {
    return new ClosedBeforeMessageError(code, reason, this.#received())
  }

  #wake (): void {
    this.#waiting[0]?.()
  }

  #received (): string {
    const { length } = this.messages
    if (length === 0) return 'No message came before'
    const last = inspect(this.messages.slice(-SHOWN), { breakLength: Infinity, maxStringLength: 200 })
    return length > SHOWN ? `${length} came before; the last of them: ${last}` : `Came before: ${last}`
  }
}
