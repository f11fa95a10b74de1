import { randomUUID } from 'node:crypto'
import type { TraceContext } from '../google/trace-context.ts'
import type { Subscriber } from '../hub/subscriber.ts'
import type { Subscription } from '../hub/subscription.ts'
import { ClientError } from '../model/client-error.ts'
import { checkClose, closeCodes, endOfViolation } from '../model/close-codes.ts'
import type { CloseName, End } from '../model/close-codes.ts'
import type {
  Connection as PublicConnection, ProtocolName, RequestOptions, SubscribeOptions, SubscribeResult, TransportName
} from '../model/connection.ts'
import type { Encoder, Frame } from '../model/encoder.ts'
import { CAUSED_BY_CLIENT, ConnectionClosedError } from '../model/errors.ts'
import type { Identity } from '../options/identity.ts'
import { readable } from '../util/thrown.ts'
import { Turns } from '../util/turns.ts'
import type { ClientSocket } from './client-socket.ts'
import type { ConnectionOwner } from './connection-owner.ts'
import { Inbox } from './inbox.ts'
import type { InboxOwner } from './inbox.ts'
import { Outbox } from './outbox.ts'
import type { OutboxOwner } from './outbox.ts'
import type { Protocol } from './protocol.ts'
import type { Session } from './session.ts'
import type { Upgrade } from './upgrade.ts'

/** Milliseconds that a peer has to answer our close frame. */
const CLOSE_TIMEOUT = 5_000
/** Milliseconds after which a peer is cut off that goes on sending what is discarded: reading it costs CPU. */
const DISCARD_TIMEOUT = 250
/** Milliseconds more for a pong while a slow handler keeps the socket paused: the pong may lie unread. */
const PAUSED_TIMEOUT = 60_000
const NO_SUBSCRIPTIONS: ReadonlyMap<string, Subscription> = new Map()

/** One client at one socket: who it is, its subscriptions, the messages it sends, and its end. */
export class Connection implements PublicConnection, Subscriber, InboxOwner, OutboxOwner {
  readonly id: string = randomUUID()
  meta!: PublicConnection['meta']
  readonly connectedAt: number = Date.now()
  readonly encoder: Encoder
  readonly inbox: Inbox
  readonly outbox: Outbox
  readonly session: Session
  /** Unix time in milliseconds at which it is closed for its age; Infinity: never. */
  readonly deadline: number
  readonly logsMessages: boolean
  /** Trace context of the upgrade request; set only when logs go to Cloud Logging. */
  readonly trace: TraceContext | undefined
  flushedBy = 0
  /** True once the user is known and the connection has a log entry. An SDK tells when it connects. */
  identified = false
  /** Unix time in milliseconds at which the next ping is due, and by which its pong must come; 0: none is due. */
  pingAt: number
  pongBy = 0

  readonly #socket: ClientSocket
  readonly #owner: ConnectionOwner<Connection>
  #user = ''
  #info: unknown
  #subscriptions: Map<string, Subscription> | undefined
  #turns: Turns | undefined
  /** Unix time in milliseconds at which it is closed for another reason than its age; Infinity: never. */
  #closeAt = Infinity
  #closeAtHow: CloseName | End = 'expired'
  #end: End | undefined
  #disconnected = false
  #endBy = 0
  #closed = false
  /** For `onDisconnect`, when the subscriptions have ended. */
  #channelsAtEnd: ReadonlySet<string> | undefined

  constructor (socket: ClientSocket, protocol: Protocol<Connection>, owner: ConnectionOwner<Connection>, upgrade: Upgrade) {
    this.encoder = protocol.encoder
    this.deadline = upgrade.deadline
    this.logsMessages = owner.observer.messages
    this.pingAt = upgrade.pingAt
    this.trace = upgrade.trace
    this.#socket = socket
    this.#owner = owner
    const { maxBufferedBytes, maxPayload } = owner.options
    this.outbox = new Outbox(socket, this, maxBufferedBytes)
    this.inbox = new Inbox(socket, this, maxPayload, upgrade.rate)
    this.session = protocol.open(this)
  }

  get user (): string { return this.#user }
  get info (): PublicConnection['info'] { return this.#info as PublicConnection['info'] }
  get protocol (): ProtocolName { return this.encoder.name }
  get transport (): TransportName { return this.encoder.transport }
  get open (): boolean { return this.#end === undefined && !this.#closed }
  /** True while nothing is read, for a handler of the app that is slow. */
  get paused (): boolean { return this.#socket.isPaused }
  get received (): number { return this.inbox.received }
  get bytesReceived (): number { return this.inbox.bytesReceived }
  get sent (): number { return this.outbox.sent }
  get bytesSent (): number { return this.outbox.bytesSent }

  get channels (): ReadonlySet<string> {
    if (this.#channelsAtEnd !== undefined) return this.#channelsAtEnd
    const live = new Set<string>()
    for (const { channel, state } of this.subscriptions.values()) if (state === 'live') live.add(channel)
    return live
  }

  /** By channel, in every state but `ended`. */
  get subscriptions (): ReadonlyMap<string, Subscription> { return this.#subscriptions ?? NO_SUBSCRIPTIONS }

  /** Orders the subscribes and unsubscribes of each channel. Made when first used: an idle connection has none. */
  get turns (): Turns {
    this.#turns ??= new Turns()
    return this.#turns
  }

  addSubscription (subscription: Subscription): void {
    this.#subscriptions ??= new Map()
    this.#subscriptions.set(subscription.channel, subscription)
  }

  removeSubscription (subscription: Subscription): void {
    if (this.subscriptions.get(subscription.channel) === subscription) this.#subscriptions?.delete(subscription.channel)
  }

  send (data: unknown): boolean {
    return this.write(this.encoder.message(data))
  }

  subscribe (channel: string, options?: SubscribeOptions): Promise<SubscribeResult> {
    return this.#owner.subscribe(this, channel, options)
  }

  unsubscribe (channel: string): Promise<void> {
    return this.#owner.unsubscribe(this, channel)
  }

  request (method: string, data?: unknown, options?: RequestOptions): Promise<unknown> {
    return this.#owner.request(this, method, data, options)
  }

  close (code?: number, reason: string = closeCodes.normal.reason): void {
    this.end(code === undefined ? 'normal' : { ...checkClose(code, reason), cause: 'server' })
  }

  identify ({ user, info, meta }: Identity): void {
    this.identified = true
    this.#user = user ?? ''
    this.#info = info
    if (meta !== undefined) this.meta = meta
  }

  write (frame: Frame): boolean {
    this.flush()
    return this.outbox.write(frame)
  }

  flush (): void {
    if (this.#subscriptions === undefined) return
    for (const subscription of this.#subscriptions.values()) subscription.flush()
  }

  positionLost (channel: string): void {
    const subscription = this.subscriptions.get(channel)
    if (subscription !== undefined) this.session.positionLost(subscription)
  }

  /** Closes the connection at this Unix time in milliseconds, in place of the time that was set before. */
  closeAt (time: number, how: CloseName | End): void {
    this.#closeAt = time
    this.#closeAtHow = how
  }

  ping (): void {
    this.flush()
    this.#socket.ping()
  }

  /** Checks one connection in the heartbeat's sweep. `late`: milliseconds that the sweep itself is late. */
  sweep (now: number, late: number, interval: number, timeout: number): void {
    if (this.#end !== undefined) {
      if (now >= this.#endBy) this.#socket.terminate()
    } else if (this.outbox.peerLeft) {
      this.#socket.terminate() // `ws` would wait for the peer's end of the TCP connection
    } else if (now >= this.deadline) {
      this.end('deadline')
    } else if (now >= this.#closeAt) {
      this.end(this.#closeAtHow)
    } else if (this.pongBy !== 0 && now >= this.pongBy + late + (this.paused ? PAUSED_TIMEOUT : 0)) {
      this.terminate('noPong')
    } else if (now >= this.pingAt && (this.pongBy === 0 || this.paused)) {
      // A paused socket is pinged all the same: if the peer has gone, the second ping fails.
      this.pingAt = now + interval
      if (this.pongBy === 0) this.pongBy = now + timeout
      this.session.ping()
    }
    if (this.open) this.outbox.checkBuffered() // again: not all that waits was written through the outbox
    this.session.sweep(now)
  }

  /** Sends the closing message and the close frame. The heartbeat terminates the socket if the peer does not answer. */
  end (how: End | CloseName): void {
    if (!this.open) return
    const end = this.encoder.endOf(how)
    if (end.cause !== 'slow') { // a slow client gets no more
      this.flush()
      this.drained()
      if (!this.open) return
    }
    const message = this.encoder.closingMessage(end)
    if (message !== undefined) {
      if (!this.outbox.writeLast(message)) return // gone
      if (end.cause !== 'slow') this.outbox.checkBuffered()
      if (!this.open) return // too slow with this message
    }
    this.#end = end
    this.#endBy = Date.now() + CLOSE_TIMEOUT
    this.#socket.resume()
    this.outbox.close(end.code, end.reason)
  }

  /** Closes on behalf of `app.realtime.disconnect`: messages in flight are discarded. */
  disconnect (how: End): void {
    this.#disconnected = true
    this.end(how)
  }

  /** Closes without waiting for the peer. The close frame still leaves if the socket accepts it at once. */
  terminate (how: CloseName): void {
    this.end(how)
    this.#socket.terminate()
  }

  discarded (): void {
    if (Date.now() >= this.#endBy - CLOSE_TIMEOUT + DISCARD_TIMEOUT) this.#socket.terminate()
  }

  messageReceived (data: Buffer, binary: boolean): void {
    this.#owner.observer.message('received', this, data, binary)
  }

  frameSent ({ payload, binary }: Frame): void {
    this.#owner.observer.message('sent', this, payload, binary)
  }

  tooSlow (bufferedBytes: number): void {
    this.#owner.observer.slow(this, bufferedBytes)
    this.end('slow')
  }

  drained (): void {
    for (const subscription of this.subscriptions.values()) subscription.sendSkipped()
  }

  resumed (): void {
    if (this.pongBy !== 0) this.pongBy = Date.now() + this.#owner.options.heartbeat.timeout
  }

  socketFailed (error: Error & { code?: string }): void {
    this.#end ??= endOfViolation(error)
    this.#endBy = Date.now() + CLOSE_TIMEOUT
  }

  closed (code: number, reason: string): void {
    this.#channelsAtEnd = this.channels
    this.#closed = true
    this.session.closed()
    this.#end ??= { code, reason, cause: code === 1006 ? 'abnormal' : 'client' }
    this.#owner.ended(this, this.#end)
  }

  /** After our close frame a client may still have messages in flight. They count, but for these ends. */
  get discardsMessages (): boolean { return this.#disconnected || this.#end?.cause === 'policy' || this.#end?.cause === 'error' }

  taskFailed (error: unknown, task: string): void {
    const cause = readable(error)
    if (!this.open && cause instanceof ConnectionClosedError) return // the client left meanwhile: the handler did not fail
    if (CAUSED_BY_CLIENT.has((cause as { code?: string } | undefined)?.code ?? '')) return
    if (cause instanceof ClientError && task !== 'onDisconnect') return this.disconnect(cause.end)
    this.#owner.observer.failed(this, cause, task)
    this.end('internalError')
  }
}
