import { randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import type { Batch } from '../model/batch.ts'
import { checkClose, closeCodes } from '../model/close-codes.ts'
import type { CloseName, End } from '../model/close-codes.ts'
import { ConnectionClosedError } from '../model/errors.ts'
import type { Instance } from './connections.ts'
import type { Identity } from '../options/options.ts'
import type { Frame, Protocol } from './protocol.ts'
import type { Position } from '../model/publication.ts'
import type { SdkSession } from '../protocols/centrifugal/session.ts'
import { isPromise, TaskQueue } from '../util/task-queue.ts'
import type { TokenBucket } from '../util/token-bucket.ts'
import type { TraceContext } from '../google/trace-context.ts'

/** Messages that may wait for the handler of the one before; then the socket is not read until half of them are done. */
const MAX_WAITING = 64
/** Bytes from several channels that wait for more, to leave in one write. */
const MAX_CORKED = 65_536
/** ms that a peer gets to answer our close frame. */
const CLOSE_TIMEOUT = 5_000
const NO_CHANNELS: ReadonlySet<string> = new Set()
/** `WebSocket.OPEN` (RFC 6455 has no names for states; these are the browser's). */
const OPEN = 1
const TEXT = { binary: false }
const BINARY = { binary: true }

/** `recovered`, `offset` and `epoch` are there when `since` was given: whether nothing is missing, and from where on publications come live. */
export interface SubscribeResult extends Partial<Position> {
  recovered?: boolean
}

/** One client at one socket. */
export class Connection {
  readonly id: string = randomUUID()
  /** The host's own; never sent anywhere. */
  meta: unknown
  /** Unix time in ms. */
  readonly connectedAt: number = Date.now()
  /** @internal Unix time in ms at which it is closed for its age; Infinity: never. */
  readonly deadline: number
  /** @internal Counts for metrics and logs: messages and bytes of their payload. */
  received = 0
  /** @internal */ sent = 0
  /** @internal */ bytesReceived = 0
  /** @internal */ bytesSent = 0
  /** @internal The last flush of several channels that has come to it. */
  flushedBy = 0
  /** @internal When the next ping is due, and by when its pong; 0: none is owed. Unix time in ms. */
  pingAt = 0
  /** @internal */ pongBy = 0

  /** @internal Whether it is known who it is, and its log has begun: with an SDK only when that connects. */
  identified = false
  /** @internal What an SDK connection knows of itself. */
  session: SdkSession | undefined

  /** @internal Of its upgrade, where log entries are to be found by it. */
  trace: TraceContext | undefined

  readonly #socket: WebSocket
  /** The socket under it. */
  readonly #raw: Duplex
  /** Whether `ws` compresses, which it does for each connection anew. */
  readonly #compresses: boolean
  readonly #wire: Protocol
  readonly #instance: Instance
  readonly #tasks = new TaskQueue()
  #user = ''
  #info: unknown
  /** Unix time in ms at which it is closed for another reason than its age; Infinity: never. */
  #limit = Infinity
  #limitFor: CloseName | End = 'expired'
  /** What waits until the client may get it. */
  #held: Frame[] | undefined
  #bucket: TokenBucket | undefined
  #channels: Set<string> | undefined
  /** Per channel the last subscribe or unsubscribe that is under way. */
  #turns: Map<string, Promise<unknown>> | undefined
  #end: End | undefined
  #expelled = false
  #endBy = 0
  #dropped = 0
  #closed = false

  /** @internal */
  constructor (socket: WebSocket, wire: Protocol, instance: Instance, deadline: number, bucket: TokenBucket | undefined) {
    this.#socket = socket
    this.#raw = (socket as unknown as { _socket: Duplex })._socket
    this.#compresses = socket.extensions !== ''
    this.#wire = wire
    this.#instance = instance
    this.deadline = deadline
    this.#bucket = bucket
    connections.set(socket, this)
    // @fastify/websocket's own listener would log what a client does wrong as an error, and keep the upgrade's request in memory.
    socket.removeAllListeners('error')
    socket.on('message', onMessage).on('pong', onPong).on('error', onError).on('close', onClose)
  }

  /** The user's id; '' for a client that did not authenticate. */
  get user (): string { return this.#user }

  /** What others may see of the user. */
  get info (): unknown { return this.#info }

  get protocol (): Protocol['name'] { return this.#wire.name }

  /** Names of the channels it is subscribed to. */
  get channels (): ReadonlySet<string> { return this.#channels ?? NO_CHANNELS }

  /** Whether it can still send: not closing, not closed. */
  get open (): boolean { return this.#end === undefined && !this.#closed }

  /** @internal Whether its socket is closed. */
  get gone (): boolean { return this.#closed }

  /** Sends one message to this client alone. False if the connection has ended. @throws FST_CRWS_INVALID_DATA */
  send (data: unknown): boolean {
    return this.write(this.#wire.message(data))
  }

  /**
   * Resolves when every publication from now on will arrive. With `since` what was published after that position comes first.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_CONNECTION_CLOSED, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER
   */
  subscribe (channel: string, options: { since?: Position } = {}): Promise<SubscribeResult> {
    return this.#instance.observer.watch('subscribe', () => this.#instance.subscribe(this, channel, options.since))
  }

  unsubscribe (channel: string): Promise<void> {
    return this.#instance.observer.watch('unsubscribe', () => this.#instance.unsubscribe(this, channel))
  }

  /** Code 1000, or 3000 to 4999; a reason of at most 123 bytes. @throws FST_CRWS_INVALID_ARGUMENT */
  close (code?: number, reason: string = closeCodes.normal.reason): void {
    this.end(code === undefined ? 'normal' : { ...checkClose(code, reason), cause: 'server' })
  }

  /** @internal */
  identify ({ user, info, meta }: Identity): void {
    this.identified = true
    this.#user = user ?? ''
    this.#info = info
    if (meta !== undefined) this.meta = meta
  }

  /** @internal It is closed at this Unix time in ms, in place of the one that was set before. */
  closeAt (time: number, how: CloseName | End): void {
    this.#limit = time
    this.#limitFor = how
  }

  /** @internal From now on frames wait for `release`: SDKs take nothing ahead of the reply to their connect. */
  hold (): void {
    this.#held = []
  }

  /** @internal Sends `first`, and what has waited. */
  release (first: Frame): void {
    const held = this.#held ?? []
    this.#held = undefined
    this.write(first)
    for (const frame of held) this.write(frame)
  }

  /** @internal To this client alone; what was published to it before goes first. */
  write (frame: Frame): boolean {
    this.#instance.flushTo(this)
    if (!this.#writable) return false
    if (this.#held !== undefined) return this.#held.push(frame) > 0
    this.#send(frame)
    this.#checkBuffered()
    return true
  }

  /** @internal What all connections of a channel get. Past `ws`, whose frames are made for one connection each; not where it compresses them. */
  writeBatch (batch: Batch): void {
    if (!this.#writable) return
    if (this.#compresses) {
      for (const frame of batch.frames) this.#send(frame)
      return this.#checkBuffered()
    }
    this.#raw.write(batch.bytes)
    this.sent += batch.frames.length
    this.bytesSent += batch.size
    if (this.#instance.observer.messages) for (const { payload, binary } of batch.frames) this.#instance.observer.message('sent', this, payload, binary)
    if (this.#raw.writableLength > Math.min(MAX_CORKED, this.#instance.options.maxBufferedBytes)) this.#checkBuffered()
  }

  /** @internal What is written until `uncork` leaves in one write, or in a few if it is much. Who still owes something is not corked. */
  cork (): void {
    if (this.#raw.writableLength === 0) this.#raw.cork()
  }

  /** @internal */
  uncork (): void {
    this.#raw.uncork()
  }

  /** @internal Bytes written but not yet accepted by the socket (`ws.bufferedAmount`). */
  get bufferedBytes (): number { return this.#socket.bufferedAmount }

  /** @internal Whether it has not taken yet what it was sent; the hub is told when it has. */
  isCongested (): boolean {
    const { writableNeedDrain, writableLength, writableCorked } = this.#raw
    if (!writableNeedDrain || writableLength === 0 || writableCorked > 0) return false
    if (!draining.has(this.#raw)) {
      draining.set(this.#raw, this)
      this.#raw.once('drain', onDrain)
    }
    return true
  }

  /** @internal */
  drained (): void {
    this.#instance.drained(this)
  }

  get #writable (): boolean { return this.#end === undefined && this.#socket.readyState === OPEN }

  #send ({ payload, binary }: Frame): void {
    this.#socket.send(payload, binary ? BINARY : TEXT)
    this.sent++
    this.bytesSent += payload.length
    if (this.#instance.observer.messages) this.#instance.observer.message('sent', this, payload, binary)
  }

  /** What is corked is not owed. The next waits again if the socket has taken it all. */
  #letGo (): void {
    if (this.#raw.writableCorked === 0) return
    this.#raw.uncork()
    this.cork()
  }

  /** A client that owes too much is dropped, and recovers what it missed when it connects again. */
  #checkBuffered (): void {
    this.#letGo()
    const { bufferedBytes } = this
    if (bufferedBytes <= this.#instance.options.maxBufferedBytes) return
    this.#instance.observer.slow(this, bufferedBytes)
    this.end('slow')
  }

  /** @internal */
  nativePing (): void {
    this.#instance.flushTo(this)
    this.#socket.ping()
  }

  /** @internal Says why, sends the close frame, and cuts the socket if the peer does not answer. */
  end (how: End | CloseName): void {
    if (!this.open) return
    const { closes } = this.#wire
    const { code: wanted, reason: given, cause } = typeof how === 'string' ? closes[how] : how
    // An SDK takes 1000 for an accident and comes back.
    const code = wanted === closeCodes.normal.code ? closes.normal.code : wanted
    // Without a reason an SDK comes back, whatever the code says.
    const reason = given === '' && this.session !== undefined ? closeCodes.normal.reason : given
    const end = { code, reason, cause }
    if (cause !== 'slow') { // who owes too much gets no more
      this.#instance.flushTo(this)
      this.#instance.drained(this)
      if (!this.open) return
    }
    const goodbye = this.#wire.goodbye(end)
    if (goodbye !== undefined && !(this.write(goodbye) && this.open)) return // gone, or with this word too slow
    this.#end = end
    this.#endBy = Date.now() + CLOSE_TIMEOUT
    this.#socket.resume()
    this.#socket.close(code, reason)
  }

  /** @internal Somebody wants this client gone: what it still sends is not handled. */
  expel (how: End): void {
    this.#expelled = true
    this.end(how)
  }

  /** @internal Without waiting for the peer; the close frame still leaves if the socket takes it at once. */
  terminate (how: CloseName): void {
    this.end(how)
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

  /** @internal Resolves when the subscribes and unsubscribes of this channel that came before have taken effect. */
  async settled (channel: string): Promise<void> {
    await this.#turns?.get(channel)
  }

  /** @internal Whether a subscribe or unsubscribe of this channel is under way. */
  busy (channel: string): boolean {
    return this.#turns?.has(channel) ?? false
  }

  /** @internal What the heartbeat's sweep does to one connection. `late`: ms that the sweep itself came too late. */
  sweep (now: number, late: number, interval: number, timeout: number): void {
    if (this.#end !== undefined) {
      if (now >= this.#endBy) this.#socket.terminate()
    } else if (now >= this.deadline) {
      this.end('deadline')
    } else if (now >= this.#limit) {
      this.end(this.#limitFor)
    } else if (this.pongBy !== 0 && now >= this.pongBy + late && !this.#socket.isPaused) {
      this.terminate('noPong')
    } else if (now >= this.pingAt && this.pongBy === 0) {
      this.pingAt = now + interval
      this.pongBy = now + timeout
      this.#wire.ping(this)
    }
    this.#wire.sweep(this, now)
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

  /** @internal Whether it is told who joins and leaves. */
  wantsEvents (channel: string): boolean {
    return this.session?.subscriptions.get(channel)?.joinLeave ?? false
  }

  /** @internal The protocol of its frames. */
  get wire (): Protocol { return this.#wire }

  /** @internal */
  receive (data: Buffer, binary: boolean): void {
    this.pongBy = 0
    this.received++
    this.bytesReceived += data.length
    if (this.#instance.observer.messages) this.#instance.observer.message('received', this, data, binary)
    if (this.#unwanted) return
    // Only of use where the host has brought its own WebSocket server with a larger limit.
    if (data.length > this.#instance.options.maxPayload) return this.end('tooBig')
    this.run(() => this.#unwanted ? undefined : this.#wire.handle(this, data, binary))
    if (this.#tasks.length >= MAX_WAITING) this.#socket.pause()
  }

  /** After our close frame a client may still have messages under way; they count, unless it is the client we do not want, or one whose handler has failed. */
  get #unwanted (): boolean { return this.#expelled || this.#end?.cause === 'policy' || this.#end?.cause === 'error' }

  /** @internal Whether one more message or command may be handled now. Who has as many more dropped than handled as are allowed at once is closed. */
  take (): boolean {
    const { rateLimit: { messages } } = this.#instance.options
    if (messages === false || this.#bucket === undefined || this.#bucket.take(messages, Date.now())) {
      if (this.#dropped > 0) this.#dropped--
      return true
    }
    this.#dropped++
    if (this.#dropped > messages.max) this.end('flooding')
    return false
  }

  /** @internal By how many more messages were dropped for coming too fast than handled since. */
  get dropped (): number { return this.#dropped }

  /** @internal */
  pong (): void {
    this.pongBy = 0
  }

  /** @internal What the client did wrong on the level of WebSocket; `ws` answers it with the right code. */
  failed (error: Error & { code?: string }): void {
    // `ws` says 1009 without a reason; the host is told ours.
    if (error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') this.#end ??= endOf(this.#wire.closes.tooBig)
    else if (error.code?.startsWith('WS_ERR_')) this.#end ??= { code: error.code === 'WS_ERR_INVALID_UTF8' ? 1007 : 1002, reason: error.message, cause: 'policy' }
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
    if (!this.#socket.isPaused || this.#tasks.length > MAX_WAITING / 2) return
    // A pong may lie unread in the socket.
    if (this.pongBy !== 0) this.pongBy = Date.now() + this.#instance.options.heartbeat.timeout
    this.#socket.resume()
  }

  #taskFailed (error: unknown): void {
    if (!this.open && error instanceof ConnectionClosedError) return // the client went meanwhile: no fault of the handler's
    this.#instance.observer.failed(this, error)
    this.end('internalError')
  }
}

function endOf ({ code, reason, cause }: End): End {
  return { code, reason, cause }
}

/** One set of listeners for all sockets: no closures per connection. */
const connections = new WeakMap<WebSocket, Connection>()
/** Of which the hub waits to hear that they have taken what they owe. */
const draining = new WeakMap<Duplex, Connection>()

function onDrain (this: Duplex): void {
  const connection = draining.get(this)
  draining.delete(this)
  connection?.drained()
}

function onMessage (this: WebSocket, data: Buffer, binary: boolean): void { connections.get(this)?.receive(data, binary) }
function onPong (this: WebSocket): void { connections.get(this)?.pong() }
function onError (this: WebSocket, error: Error): void { connections.get(this)?.failed(error) }
function onClose (this: WebSocket, code: number, reason: Buffer): void { connections.get(this)?.closed(code, reason.toString()) }
