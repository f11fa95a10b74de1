import type { Batch, Frame } from '../model/encoder.ts'
import { CLOSING, corkOf, OPEN, outputOf, takesFrames } from './client-socket.ts'
import type { ClientSocket, Output } from './client-socket.ts'
import type { Compression, Deflate } from './compression.ts'

/** Bytes from several channels that are held back to leave in one write. */
const MAX_CORKED = 65_536
const TEXT = { binary: false }
const BINARY = { binary: true }

/** Opcodes of data frames (RFC 6455, section 11.8), with the FIN bit: the frame is the whole message. */
const TEXT_FRAME = 0x81
const BINARY_FRAME = 0x82
/** The bit of a compressed message (RFC 7692, section 6). */
const RSV1 = 0x40
/** Payload lengths that fit into the first length byte, and into the 16 bits after it (RFC 6455, section 5.2). */
const SHORT = 125
const MEDIUM = 0xFFFF

/** The connection that an outbox belongs to. */
export interface OutboxOwner {
  /** True if log entries are written for messages. */
  readonly logsMessages: boolean
  /** A frame was sent. Called only if `logsMessages`. */
  frameSent (frame: Frame): void
  /** The client has more than the allowed bytes outstanding. */
  tooSlow (bufferedBytes: number): void
  /** The socket has accepted everything. Called once after each `isCongested` that returned true. */
  drained (): void
}

/** Sends messages over one socket, and counts them. */
export class Outbox {
  /** Messages sent, and the bytes of their payloads, compressed ones as they go on the wire. */
  sent = 0
  bytesSent = 0
  readonly #owner: OutboxOwner
  readonly #socket: ClientSocket
  readonly #raw: Output
  readonly #deflate: Deflate | undefined
  readonly #takesFrames: boolean
  readonly #maxBufferedBytes: number
  #closed = false
  /** What holds writes back, between `cork` and `uncork`. */
  #corked: Pick<Output, 'cork' | 'uncork'> | undefined
  /** Frames that wait for `release`. */
  #held: Frame[] | undefined

  constructor (socket: ClientSocket, owner: OutboxOwner, maxBufferedBytes: number, compression?: Compression) {
    this.#socket = socket
    this.#raw = outputOf(socket)
    this.#owner = owner
    this.#deflate = compression?.of(socket)
    this.#takesFrames = this.#deflate !== undefined || takesFrames(socket)
    this.#maxBufferedBytes = maxBufferedBytes
  }

  /** Bytes written but not yet accepted by the socket (`ws.bufferedAmount`). */
  get bufferedBytes (): number { return this.#socket.bufferedAmount }

  /** True if the client has closed its side and has taken all that it was sent. */
  get peerLeft (): boolean { return !this.#closed && this.#socket.readyState === CLOSING && this.bufferedBytes === 0 }

  get #writable (): boolean { return !this.#closed && this.#socket.readyState === OPEN }

  /** Holds frames back until `release`: SDKs accept nothing before the reply to their connect. */
  hold (): void {
    this.#held = []
  }

  /** Sends `first` and then the held frames. */
  release (first: Frame): void {
    const held = this.#held ?? []
    this.#held = undefined
    this.write(first)
    for (const frame of held) this.write(frame)
  }

  /** Sends the message that tells of the end, in place of what is held. False if the connection has ended. */
  writeLast (frame: Frame): boolean {
    if (!this.#writable) return false
    this.#held = undefined
    this.#send(frame)
    return true
  }

  /** Sends a message to this client alone. False if the connection has ended. */
  write (frame: Frame): boolean {
    if (!this.#writable) return false
    if (this.#held !== undefined) return this.#held.push(frame) > 0
    this.#send(frame)
    this.checkBuffered()
    return true
  }

  /**
   * Sends what all subscribers of a channel get, bypassing `ws`, which frames and compresses a message for each
   * connection. Without the option `compression` the messages take its way where it compresses, as they do where there
   * is no WebSocket.
   */
  writeBatch (batch: Batch): void {
    if (!this.#writable || batch.frames.length === 0) return
    if (!this.#takesFrames) {
      for (const frame of batch.frames) this.#send(frame)
      return this.checkBuffered()
    }
    const own = this.#deflate === undefined ? batch : this.#deflate.batch(batch)
    this.#raw.write(own.bytes ?? frameBatch(own))
    this.sent += own.frames.length
    this.bytesSent += own.payloadBytes
    if (this.#owner.logsMessages) for (const frame of batch.frames) this.#owner.frameSent(frame)
    if (this.#raw.writableLength > Math.min(MAX_CORKED, this.#maxBufferedBytes)) this.checkBuffered()
  }

  /**
   * Holds writes back until `uncork`: they leave in one write, or in a few if they are large. A congested socket is
   * not corked.
   */
  cork (): void {
    if (this.#corked !== undefined || this.#raw.writableLength > 0) return
    this.#corked = corkOf(this.#raw)
    this.#corked.cork()
  }

  uncork (): void {
    this.#corked?.uncork()
    this.#corked = undefined
  }

  /** True while the socket has not accepted what it was given. `owner.drained` is called when it has. */
  isCongested (): boolean {
    const { writableNeedDrain, writableLength } = this.#raw
    if (!writableNeedDrain || writableLength === 0 || this.#corked !== undefined) return false
    if (!draining.has(this.#raw)) {
      draining.set(this.#raw, this.#owner)
      this.#raw.once('drain', onDrain)
    }
    return true
  }

  /** Ends the connection if the client owes too much, whatever made it so. */
  checkBuffered (): void {
    this.#flushCorked()
    const { bufferedBytes } = this
    if (bufferedBytes > this.#maxBufferedBytes && !this.#closed) this.#owner.tooSlow(bufferedBytes)
  }

  /** Sends the close frame; nothing is sent after it. */
  close (code: number, reason: string): void {
    this.#closed = true
    this.#socket.close(code, reason)
  }

  #send (frame: Frame): void {
    // `ws` compresses later, and would be overtaken by batches.
    if (this.#deflate !== undefined) {
      return this.writeBatch({ frames: [frame], bytes: undefined, payloadBytes: 0, compressible: this.#deflate.forOne })
    }
    this.#socket.send(frame.payload, frame.binary ? BINARY : TEXT)
    this.sent++
    this.bytesSent += frame.payload.length
    if (this.#owner.logsMessages) this.#owner.frameSent(frame)
  }

  /** Corked bytes are not outstanding. What follows is corked again if the socket has accepted everything. */
  #flushCorked (): void {
    if (this.#corked === undefined) return
    this.uncork()
    this.cork()
  }
}

/** Owners that wait for their socket to drain. One listener for all sockets: no closure per connection. */
const draining = new WeakMap<Output, OutboxOwner>()

function onDrain (this: Output): void {
  const owner = draining.get(this)
  draining.delete(this)
  owner?.drained()
}

/** Frames a batch according to RFC 6455, unmasked as from a server, once for all connections. */
function frameBatch (batch: Batch): Buffer {
  const parts: Buffer[] = []
  for (const { payload, binary, deflated } of batch.frames) {
    const { length } = payload
    const header = Buffer.allocUnsafe(length <= SHORT ? 2 : length <= MEDIUM ? 4 : 10)
    header[0] = (binary ? BINARY_FRAME : TEXT_FRAME) | (deflated ? RSV1 : 0)
    header[1] = length <= SHORT ? length : length <= MEDIUM ? 126 : 127
    if (length > MEDIUM) header.writeBigUInt64BE(BigInt(length), 2)
    else if (length > SHORT) header.writeUInt16BE(length, 2)
    parts.push(header, payload)
    batch.payloadBytes += length
  }
  batch.bytes = Buffer.concat(parts)
  return batch.bytes
}
