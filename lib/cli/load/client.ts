import type { IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'
import { reconnectsAfter } from '../../model/close-codes.ts'
import type { LoadOptions } from './options.ts'
import { refusalOf } from './refusal.ts'
import type { Schedule } from './schedule.ts'
import type { Stream } from './stream.ts'
import type { Tally } from './tally.ts'

/** What the clients of a run share. */
export interface Run {
  readonly id: string
  readonly options: LoadOptions
  readonly tally: Tally
  readonly schedule: Schedule
  readonly random: () => number
  readonly tokenOf: (index: number) => Promise<string | undefined>
  /** The run is over: nobody connects again. */
  readonly ending: boolean
}

/** Delays before a client connects again, as the official SDKs have them. */
const MIN_DELAY = 500
const MAX_DELAY = 20_000
/** Milliseconds until a connection has to be ready for use. */
export const CONNECT_TIMEOUT = 10_000
/** Bytes that wait for a server that does not read: on one connection, and on all together. */
const MAX_BUFFERED = 4e6
const MAX_BUFFERED_OF_ALL = 256e6
/** The code of a close without a frame. */
const ABNORMAL = 1006
/** Codes of RFC 6455 that tell a client that the same would happen again. */
const FINAL_CODES = [1002, 1003, 1007, 1008, 1009, 1010]

/** A client that connects, and connects again when its connection ends, until the run is over. */
export abstract class Client {
  readonly index: number
  protected readonly run: Run
  #socket: WebSocket | undefined
  /** Connected, and what the protocol wants to come first is done. */
  #ready = false
  #wasReady = false
  #startedAt = 0
  #leftAt: number | undefined
  #failures = 0
  /** `performance.now()` at which the connection counts as dead. */
  #deadline = Infinity
  /** Why this client cuts its connection. */
  #cutReason: string | undefined
  /** The upgrade got an HTTP answer. */
  #isRefused = false
  #isGone = false

  constructor (run: Run, index: number) {
    this.run = run
    this.index = index
  }

  get ready (): boolean {
    return this.#ready
  }

  /** Whether the server reads what it is sent. Otherwise this process would have to keep it. */
  protected get flows (): boolean {
    const limit = Math.min(MAX_BUFFERED, MAX_BUFFERED_OF_ALL / this.run.options.connections)
    return this.#socket !== undefined && this.#socket.bufferedAmount < limit
  }

  /** Whether this client can send publications of this stream now. */
  abstract mayPublish (stream: Stream): boolean
  /** Sends a publication of this stream, which this client may be one of several senders of. */
  abstract publish (stream: Stream): void
  /** The socket is open. The protocol calls `becomeReady` when it can be used. */
  protected abstract onOpen (): void
  protected abstract onMessage (text: string): void
  /** The connection has ended, and with it whatever waited for an answer. */
  protected abstract onEnd (): void
  /** The client does not come back. */
  protected abstract onGone (): void
  /** Whether a client stays away after this code. */
  protected abstract isFinal (code: number): boolean

  async connect (): Promise<void> {
    await this.prepare()
    if (this.run.ending) return
    const { url, headers, origin } = this.run.options
    this.#startedAt = performance.now()
    this.#deadline = this.#startedAt + CONNECT_TIMEOUT
    this.#cutReason = undefined
    const socket = this.#socket = new WebSocket(url, { headers, perMessageDeflate: false, ...origin !== undefined && { origin } })
    let failure: string | undefined
    let wasOpen = false
    socket.on('unexpected-response', (_request, response) => { this.#refused(response, socket) })
    socket.on('error', ({ message, code }: Error & { code?: string }) => { failure = code === undefined ? message : `${code}: ${message}` })
    socket.on('open', () => {
      wasOpen = true
      this.onOpen()
    })
    socket.on('message', (data: Buffer) => {
      this.run.tally.bytesReceived += data.length
      if (!this.#isGone) this.onMessage(data.toString())
    })
    socket.on('close', (code, reason) => {
      this.#closed(wasOpen, code, code === ABNORMAL ? this.#cutReason ?? failure ?? 'no close frame' : reason.toString())
    })
  }

  /** Closes the connection at the end of the run. */
  close (): void {
    this.#socket?.close(1000, 'end of the load test')
  }

  /** Cuts the connection if it is overdue. */
  check (now: number): void {
    if (now >= this.#deadline) this.cut(this.#ready ? 'no ping' : 'connect timeout')
  }

  cut (reason: string): void {
    this.#cutReason = reason
    this.#deadline = Infinity
    this.#socket?.terminate()
  }

  /** Prepares a connect. */
  protected async prepare (): Promise<void> {}

  protected send (text: string): void {
    this.run.tally.bytesSent += text.length
    this.#socket?.send(text)
  }

  /** The connection is dead unless something comes within `ms`. */
  protected expectWithin (ms: number): void {
    this.#deadline = performance.now() + ms
  }

  protected becomeReady (): void {
    const { tally } = this.run
    const now = performance.now()
    this.#ready = true
    this.#failures = 0
    this.#deadline = Infinity
    tally.open++
    tally.connects++
    tally.connectTime.record(now - this.#startedAt)
    if (!this.#wasReady) tally.opened++
    else tally.reconnects++
    this.#wasReady = true
    if (this.#leftAt !== undefined) tally.awayTime.record(now - this.#leftAt)
  }

  /** The server does not take this client. It closes the connection, and does not come back. */
  protected giveUp (reason: string): void {
    this.run.tally.failed.add(reason)
    this.#gone()
    this.#socket?.close(1000)
  }

  #gone (): void {
    if (this.#isGone || this.run.ending) return
    this.#isGone = true
    this.run.tally.gone++
    this.onGone()
  }

  /** The upgrade got an HTTP answer. A redirect is one of them: it is not followed. */
  #refused (response: IncomingMessage, socket: WebSocket): void {
    refusalOf(response).then(({ reason, final }) => {
      this.#isRefused = true
      this.run.tally.refused.add(reason)
      if (final) this.#gone()
      socket.terminate()
    }, () => socket.terminate())
  }

  #closed (wasOpen: boolean, code: number, reason: string): void {
    const { tally, ending } = this.run
    const wasReady = this.#ready
    this.#ready = false
    this.#deadline = Infinity
    if (wasReady) {
      tally.open--
      this.#leftAt = performance.now()
    }
    if (wasOpen) this.onEnd()
    if (ending) return
    if (!this.#isGone && !this.#isRefused) {
      if (wasReady || code !== ABNORMAL) tally.closed.add(`${code} ${reason}`)
      else tally.failed.add(reason)
    }
    this.#isRefused = false
    if (this.isFinal(code)) this.#gone()
    if (!this.#isGone) this.run.schedule.after(this.#delay(), () => { this.connect() })
  }

  #delay (): number {
    const growth = Math.min(MAX_DELAY, MIN_DELAY * 2 ** this.#failures++)
    return Math.min(MAX_DELAY, MIN_DELAY + this.run.random() * growth)
  }
}

/** Whether a code, of RFC 6455 or of the SDKs' protocol, tells plain clients not to connect again. */
export function isTerminalForPlain (code: number): boolean {
  return code === 1000 || FINAL_CODES.includes(code) || !reconnectsAfter(code)
}
