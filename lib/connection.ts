import { randomUUID } from 'node:crypto'
import type { WebSocket } from 'ws'
import { closeCodes } from './close-codes.ts'
import type { CloseCode, End } from './close-codes.ts'
import { InvalidArgumentError } from './errors.ts'
import type { Instance, SubscribeResult } from './instance.ts'
import type { Identity } from './options.ts'
import type { Frame, Protocol } from './protocol.ts'
import type { Position } from './publication.ts'
import { isPromise, TaskQueue } from './task-queue.ts'
import type { TokenBucket } from './token-bucket.ts'

/** Messages that may wait for the handler of the one before; then the socket is not read until half of them are done. */
const MAX_WAITING = 64
/** ms that a peer gets to answer our close frame. */
const CLOSE_TIMEOUT = 5_000
/** Bytes of a close reason (RFC 6455, section 5.5: a control frame carries 125, two of them the code). */
const MAX_REASON_BYTES = 123
const NO_CHANNELS: ReadonlySet<string> = new Set()
/** `WebSocket.OPEN` (RFC 6455 has no names for states; these are the browser's). */
const OPEN = 1
const TEXT = { binary: false }
const BINARY = { binary: true }

/** One client at one socket. */
export class Connection {
  readonly id: string = randomUUID()
  /** The user's id; '' for a client that did not authenticate. */
  readonly user: string
  /** What others may see of the user. */
  readonly info: unknown
  /** The host's own; never sent anywhere. */
  meta: unknown
  /** Unix time in ms. */
  readonly connectedAt: number = Date.now()
  /** Unix time in ms at which the connection is closed for its age or because its identity has expired; Infinity: never. */
  readonly closeAt: number
  readonly closeAtReason: CloseCode

  /** @internal Counts for metrics and logs: messages and bytes of their payload. */
  received = 0
  /** @internal */ sent = 0
  /** @internal */ bytesReceived = 0
  /** @internal */ bytesSent = 0
  /** @internal When the next ping is due, and by when its pong; 0: none is owed. Unix time in ms. */
  pingAt = 0
  /** @internal */ pongBy = 0

  readonly #socket: WebSocket
  readonly #wire: Protocol
  readonly #instance: Instance
  readonly #tasks = new TaskQueue()
  #bucket: TokenBucket | undefined
  #channels: Set<string> | undefined
  /** Per channel the last subscribe or unsubscribe that is under way. */
  #turns: Map<string, Promise<unknown>> | undefined
  #end: End | undefined
  #endBy = 0
  /** Messages dropped in a row for coming too fast. */
  #dropped = 0
  #closed = false

  /** @internal */
  constructor (socket: WebSocket, wire: Protocol, instance: Instance, identity: Identity, closeAt: number, bucket: TokenBucket | undefined) {
    this.#socket = socket
    this.#wire = wire
    this.#instance = instance
    this.#bucket = bucket
    this.user = identity.user ?? ''
    this.info = identity.info
    this.meta = identity.meta
    const expiresAt = identity.expiresAt === undefined ? Infinity : identity.expiresAt * 1_000
    this.closeAt = Math.min(closeAt, expiresAt)
    this.closeAtReason = expiresAt < closeAt ? closeCodes.expired : closeCodes.deadline
    connections.set(socket, this)
    // @fastify/websocket's own listener would log what a client does wrong as an error, and keep the upgrade's request in memory.
    socket.removeAllListeners('error')
    socket.on('message', onMessage).on('pong', onPong).on('error', onError).on('close', onClose)
  }

  get protocol (): Protocol['name'] { return this.#wire.name }

  /** Names of the channels it is subscribed to. */
  get channels (): ReadonlySet<string> { return this.#channels ?? NO_CHANNELS }

  /** Whether it can still send: not closing, not closed. */
  get open (): boolean { return this.#end === undefined && !this.#closed }

  /** Sends one message to this client alone. False if the connection has ended. @throws FST_CRWS_INVALID_DATA */
  send (data: unknown): boolean {
    return this.write(this.#wire.message(data))
  }

  /**
   * Resolves when every publication from now on will arrive. With `since` what was published after that position comes first.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_CONNECTION_CLOSED, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER
   */
  subscribe (channel: string, options: { since?: Position } = {}): Promise<SubscribeResult> {
    return this.#instance.subscribe(this, channel, options.since)
  }

  unsubscribe (channel: string): Promise<void> {
    return this.#instance.unsubscribe(this, channel)
  }

  /** Code 1000, or 3000 to 4999; a reason of at most 123 bytes. @throws FST_CRWS_INVALID_ARGUMENT */
  close (code: number = closeCodes.normal.code, reason: string = closeCodes.normal.reason): void {
    this.end({ ...checkClose(code, reason), cause: 'server' })
  }

  /** @internal The one way out. A client that owes too much is dropped, and recovers what it missed when it connects again. */
  write (frame: Frame): boolean {
    if (this.#end !== undefined || this.#socket.readyState !== OPEN) return false
    this.#socket.send(frame.payload, frame.binary ? BINARY : TEXT)
    this.sent++
    this.bytesSent += frame.payload.length
    if (this.#socket.bufferedAmount > this.#instance.options.maxBufferedBytes) {
      this.#instance.logs.slow(this, this.#socket.bufferedAmount)
      this.end(closeCodes.slow)
    }
    return true
  }

  /** @internal Says why, sends the close frame, and cuts the socket if the peer does not answer. */
  end (end: End): void {
    if (!this.open) return
    const goodbye = this.#wire.goodbye(end)
    if (goodbye !== undefined && !this.write(goodbye)) return
    const { code, reason, cause } = end
    this.#end = { code, reason, cause }
    this.#endBy = Date.now() + CLOSE_TIMEOUT
    this.#socket.resume()
    this.#socket.close(code, reason)
  }

  /** @internal Without waiting for the peer; the close frame still leaves if the socket takes it at once. */
  cut (end: End): void {
    this.end(end)
    this.#socket.terminate()
  }

  /** @internal Runs host code in its turn; an exception ends this connection and nothing else. */
  run (task: () => unknown): void {
    this.#tasks.push(() => this.#guard(task))
  }

  /** @internal Subscribing to and unsubscribing from one channel take effect in the order of the calls. */
  inTurn<T> (channel: string, step: () => Promise<T>): Promise<T> {
    const turns = this.#turns ??= new Map<string, Promise<unknown>>()
    const turn = (turns.get(channel) ?? Promise.resolve()).then(step)
    const settled = turn.catch(() => {}).then(() => { // the caller has the failure; the next one in turn does not care
      if (turns.get(channel) === settled) turns.delete(channel)
    })
    turns.set(channel, settled)
    return turn
  }

  /** @internal What the heartbeat's sweep does to one connection. `late`: ms that the sweep itself came too late. */
  sweep (now: number, late: number, interval: number, timeout: number): void {
    if (this.#end !== undefined) {
      if (now >= this.#endBy) this.#socket.terminate()
    } else if (now >= this.closeAt) {
      this.end(this.closeAtReason)
    } else if (this.pongBy !== 0 && now >= this.pongBy + late && !this.#socket.isPaused) {
      this.cut(closeCodes.noPong)
    } else if (now >= this.pingAt && this.pongBy === 0) {
      this.pingAt = now + interval
      this.pongBy = now + timeout
      this.#socket.ping()
    }
  }

  /** @internal */
  joined (channel: string): void {
    this.#channels ??= new Set()
    this.#channels.add(channel)
  }

  /** @internal */
  left (channel: string): boolean {
    return this.#channels?.delete(channel) ?? false
  }

  /** @internal The protocol of its frames. */
  get wire (): Protocol { return this.#wire }

  /** @internal */
  receive (data: Buffer, binary: boolean): void {
    this.pongBy = 0
    this.received++
    this.bytesReceived += data.length
    // After our close frame a client may still have messages under way; they count, unless it is the client we do not want.
    if (this.#end?.cause === 'policy' || this.#end?.cause === 'error') return
    const { maxPayload, rateLimit: { messages } } = this.#instance.options
    // Only of use where the host has brought its own WebSocket server with a larger limit.
    if (data.length > maxPayload) return this.end(closeCodes.tooBig)
    if (messages !== false && this.#bucket?.take(messages, Date.now()) === false) return this.#tooFast(messages.max)
    this.#dropped = 0
    this.run(() => this.#wire.handle(this, data, binary))
    if (this.#tasks.length >= MAX_WAITING) this.#socket.pause()
  }

  /** @internal */
  pong (): void {
    this.pongBy = 0
  }

  /** @internal What the client did wrong on the level of WebSocket; `ws` answers it with the right code. */
  failed (error: Error & { code?: string }): void {
    const tooBig = error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'
    if (error.code?.startsWith('WS_ERR_')) this.#end ??= tooBig ? closeCodes.tooBig : { code: 1002, reason: error.message, cause: 'policy' }
    this.#endBy = Date.now() + CLOSE_TIMEOUT
  }

  /** @internal Called exactly once, however the connection ended. */
  closed (code: number, reason: string): void {
    this.#closed = true
    connections.delete(this.#socket)
    this.#end ??= { code, reason, cause: code === 1006 ? 'abnormal' : 'client' }
    this.#instance.ended(this, this.#end)
  }

  #guard (task: () => unknown): unknown {
    try {
      const result = task()
      if (isPromise(result)) return result.then(() => this.#taskDone(), (error: unknown) => this.#taskFailed(error))
    } catch (error) {
      this.#taskFailed(error)
    }
    this.#taskDone()
  }

  #taskDone (): void {
    if (this.#socket.isPaused && this.#tasks.length <= MAX_WAITING / 2) this.#socket.resume()
  }

  #taskFailed (error: unknown): void {
    this.#instance.logs.failed(this, error)
    this.end(closeCodes.internalError)
  }

  /** Said once per burst, so that a flood is not answered by a flood; who goes on all the same is closed. */
  #tooFast (max: number): void {
    this.#dropped++
    if (this.#dropped === 1) this.#wire.tooFast(this)
    if (this.#dropped > max) this.end(closeCodes.flooding)
  }
}

/** One set of listeners for all sockets: no closures per connection. */
const connections = new WeakMap<WebSocket, Connection>()

function onMessage (this: WebSocket, data: Buffer, binary: boolean): void { connections.get(this)?.receive(data, binary) }
function onPong (this: WebSocket): void { connections.get(this)?.pong() }
function onError (this: WebSocket, error: Error): void { connections.get(this)?.failed(error) }
function onClose (this: WebSocket, code: number, reason: Buffer): void { connections.get(this)?.closed(code, reason.toString()) }

/** @throws FST_CRWS_INVALID_ARGUMENT */
export function checkClose (code: number, reason: string): { code: number, reason: string } {
  if (code !== 1000 && !(Number.isInteger(code) && code >= 3000 && code <= 4999)) throw new InvalidArgumentError('close code', String(code), '1000, or 3000 to 4999')
  if (typeof reason !== 'string' || Buffer.byteLength(reason) > MAX_REASON_BYTES) throw new InvalidArgumentError('close reason', String(reason), `a text of at most ${MAX_REASON_BYTES} bytes`)
  return { code, reason }
}
