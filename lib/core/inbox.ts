import type { CloseName } from '../model/close-codes.ts'
import { isPromise, TaskQueue } from '../util/task-queue.ts'
import { TokenBucket } from '../util/token-bucket.ts'
import type { ClientSocket } from './client-socket.ts'
import { publishesOf } from './guard.ts'
import type { Session } from './session.ts'

/** Messages, and bytes, that may wait for an earlier handler. Then the socket is paused until half of them are done. */
const MAX_WAITING = 64
const MAX_WAITING_BYTES = 262_144
/** How many times that may wait while the client owes an answer, which lies behind what it sent before. */
const AHEAD_OF_ANSWER = 4
/** Publications of one connection that Redis has not acknowledged. At this many the next message waits. */
const MAX_PUBLISHING = 64
/** Bytes of what was read for a client that one command pays for. */
const BYTES_PER_TOKEN = 4_096

/** The connection that an inbox belongs to. */
export interface InboxOwner {
  readonly session: Session
  /** Unix time in milliseconds by which a sign of life must come; 0: none is due. */
  pongBy: number
  /** True if log entries are written for messages. */
  readonly logsMessages: boolean
  /**
   * True if messages in flight are discarded: the client was disconnected or broke a rule, or its handler has failed.
   */
  readonly discardsMessages: boolean
  /** A message or control frame came after an end that discards them. */
  discarded (): void
  /** A message was received. Called only if `logsMessages`. */
  messageReceived (data: Buffer, binary: boolean): void
  /** The socket is read again after a pause, in which a pong may have lain unread. */
  resumed (): void
  /** Your app's code has thrown or rejected. `task`: the handler's name, or what else was done for the connection. */
  taskFailed (error: unknown, task: string): void
  end (how: CloseName): void
  /** The client violated WebSocket itself; `ws` answers that. */
  socketFailed (error: Error & { code?: string }): void
  /** The socket is closed. Called once. */
  closed (code: number, reason: string): void
}

/** Receives messages from one socket: counts them, and hands them to the session one at a time, in order. */
export class Inbox {
  /** Messages received, and the bytes of their payloads. */
  received = 0
  bytesReceived = 0
  /** Limits messages and commands; undefined: no limit. After a refusal `refused` must be called. */
  readonly rate: TokenBucket | undefined
  readonly owner: InboxOwner
  readonly #socket: ClientSocket
  readonly #tasks = new TaskQueue()
  readonly #maxPayload: number
  /** Limits what the client reads, as `rate` does what it sends. Made when it first reads. */
  #reads: TokenBucket | undefined
  /** Takes answers to requests of the app, ahead of the messages that wait. Set by `expectAnswers`. */
  #takeAnswer: ((data: Buffer, binary: boolean) => boolean) | undefined
  #waiting = 0
  #waitingBytes = 0
  /** Publications that a handler has returned, or that a command has sent, and that are not acknowledged yet. */
  #publishing = 0
  /** Goes on when `#publishing` is below this. */
  #publishingBelow = 0
  #goOn: (() => void) | undefined
  #publishFailed = false
  /** Unix time in milliseconds at which the message that is being handled came; 0: it did not have to wait. */
  #arrivedAt = 0

  constructor (socket: ClientSocket, owner: InboxOwner, maxPayload: number, rate: TokenBucket | undefined) {
    this.owner = owner
    this.#socket = socket
    this.#maxPayload = maxPayload
    this.rate = rate
    inboxes.set(socket, this)
    // @fastify/websocket's own listener logs a client's mistakes as errors, and keeps the upgrade's request in memory.
    socket.removeAllListeners('error')
    socket.on('message', Inbox.#receive).on('ping', onPing).on('pong', onPong).on('error', onError).on('close', onClose)
  }

  /** Receives one message. Static: one listener for all sockets, no closure per connection. */
  static #receive (this: ClientSocket, data: Buffer, binary: boolean): void {
    const inbox = inboxes.get(this)
    if (inbox === undefined) return // it is closed
    const { owner } = inbox
    inbox.received++
    inbox.bytesReceived += data.length
    owner.pongBy = 0
    if (owner.logsMessages) owner.messageReceived(data, binary)
    if (owner.discardsMessages) return owner.discarded()
    // Of use only where the app has registered a WebSocket server of its own with a larger limit.
    if (data.length > inbox.#maxPayload) return owner.end('tooBig')
    if (inbox.#takeAnswer?.(data, binary) === true) return
    if (!inbox.#tasks.idle) return inbox.#receiveLater(data, binary)
    try {
      const result = owner.session.handle(data, binary)
      if (result !== undefined && isPromise(result)) {
        const done = inbox.#whenDone(result, 'onMessage')
        if (done !== undefined) inbox.#tasks.waitFor(done)
      }
    } catch (error) {
      owner.taskFailed(error, 'onMessage')
    }
  }

  /** Runs a task of the app after the messages before it. An exception ends this connection and nothing else. */
  run (name: string, task: () => unknown): void {
    this.#tasks.push(() => {
      try {
        const result = task()
        if (isPromise(result)) return this.#whenDone(result, name)
      } catch (error) {
        this.owner.taskFailed(error, name)
      }
      this.#taskDone()
    })
  }

  /**
   * Lets the next message be handled before this publish is acknowledged. `failed` is called if it rejects. Returns
   * what the next message has to wait for all the same: too many publications are under way.
   */
  publishing (acknowledged: PromiseLike<unknown>, publications: number, failed: (error: unknown) => void): Promise<void> | undefined {
    this.#publishing += publications
    acknowledged.then(() => this.#acknowledged(publications), (error: unknown) => {
      failed(error)
      this.#acknowledged(publications)
    })
    return this.#publishing < MAX_PUBLISHING ? undefined : this.#whenPublishing(MAX_PUBLISHING)
  }

  /** Resolves when every publish that a handler has returned is acknowledged, or has failed. For a task in its turn. */
  allAcknowledged (): Promise<void> | undefined {
    return this.#publishing === 0 ? undefined : this.#whenPublishing(1)
  }

  /** While this is set, it is given every message first, and returns true if the message was an answer. */
  expectAnswers (take: ((data: Buffer, binary: boolean) => boolean) | undefined): void {
    this.#takeAnswer = take
    if (this.#socket.isPaused && !this.#full) this.#resume() // the answer may lie unread
  }

  /** The time for `rate`: a message that has waited for a slow handler counts as of its arrival. */
  get now (): number { return this.#arrivedAt || Date.now() }

  /** False if one more message or command comes too fast. */
  take (): boolean {
    if (this.rate === undefined || this.rate.take(this.now)) return true
    this.refused()
    return false
  }

  /** Closes a client of which more was refused than it may send at once. */
  refused (): void {
    if (this.rate !== undefined && this.rate.refused > this.rate.rate.max) this.owner.end('flooding')
  }

  /** False if the client has not paid yet for what it has read. What it sends is not concerned. */
  takeRead (): boolean {
    if (this.rate === undefined) return true
    this.#reads ??= new TokenBucket(this.rate.rate, this.now)
    return this.#reads.take(this.now)
  }

  /** Charges for what a read has brought, after `takeRead`. */
  chargeRead (bytes: number): void {
    this.#reads?.charge(Math.ceil(bytes / BYTES_PER_TOKEN) - 1)
  }

  /** Counts a ping, or a pong that nobody asked for: they cost as much to read as a message. */
  takeControlFrame (): void {
    if (this.owner.discardsMessages) this.owner.discarded()
    else this.take()
  }

  #receiveLater (data: Buffer, binary: boolean): void {
    this.#waiting++
    this.#waitingBytes += data.length
    const arrivedAt = Date.now()
    this.run('onMessage', () => {
      this.#waiting--
      this.#waitingBytes -= data.length
      this.#arrivedAt = arrivedAt
      return this.owner.discardsMessages ? undefined : this.owner.session.handle(data, binary)
    })
    if (this.#full) this.#socket.pause()
    // `ws` hands out what it had read before the pause: at most 64 KB, but those may be thousands of empty messages.
    if (this.rate !== undefined && this.#waiting > MAX_WAITING * this.#ahead + 2 * this.rate.rate.max) this.owner.end('flooding')
  }

  get #ahead (): number { return this.#takeAnswer === undefined ? 1 : AHEAD_OF_ANSWER }

  get #full (): boolean {
    return this.#waiting >= MAX_WAITING * this.#ahead || this.#waitingBytes >= MAX_WAITING_BYTES * this.#ahead
  }

  /** Returns what the next task waits for; undefined if it need not wait. */
  #whenDone (result: PromiseLike<unknown>, task: string): PromiseLike<void> | undefined {
    const publications = publishesOf(result)
    if (publications !== undefined) {
      this.#taskDone()
      return this.publishing(result, publications, error => this.#failedPublish(error, task))
    }
    return result.then(() => this.#taskDone(), (error: unknown) => {
      this.owner.taskFailed(error, task)
      this.#taskDone() // the connection may go on
    })
  }

  #taskDone (): void {
    this.#arrivedAt = 0
    if (!this.#socket.isPaused || this.#waiting > MAX_WAITING / 2 || this.#waitingBytes > MAX_WAITING_BYTES / 2) return
    this.#resume()
  }

  #resume (): void {
    this.owner.resumed()
    this.#socket.resume()
  }

  #whenPublishing (below: number): Promise<void> {
    this.#publishingBelow = below
    return new Promise(resolve => { this.#goOn = resolve })
  }

  #acknowledged (publications: number): void {
    this.#publishing -= publications
    if (this.#publishing >= this.#publishingBelow) return
    this.#goOn?.()
    this.#goOn = undefined
  }

  /** The first one ends the connection. What fails with it, as Redis goes away, is not told once more. */
  #failedPublish (error: unknown, task: string): void {
    if (!this.#publishFailed) this.owner.taskFailed(error, task)
    this.#publishFailed = true
  }
}

/** One set of listeners for all sockets: no closures per connection. */
const inboxes = new WeakMap<ClientSocket, Inbox>()

function onPing (this: ClientSocket): void { inboxes.get(this)?.takeControlFrame() }
function onPong (this: ClientSocket): void {
  const inbox = inboxes.get(this)
  if (inbox === undefined) return
  if (inbox.owner.pongBy === 0) inbox.takeControlFrame()
  else inbox.owner.pongBy = 0
}
function onError (this: ClientSocket, error: Error): void { inboxes.get(this)?.owner.socketFailed(error) }
function onClose (this: ClientSocket, code: number, reason: Buffer): void {
  inboxes.get(this)?.owner.closed(code, reason.toString())
  inboxes.delete(this)
}
