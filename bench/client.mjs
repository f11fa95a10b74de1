import { connect } from 'node:net'
import { channelAt, numberAt, publisherAt } from './message.mjs'
import { frame } from './wires.mjs'

const CLOSE = 8
const PING = 9
const PONG = 10
/** Bytes of a reply to an upgrade that says no. */
const MAX_HEAD = 16_384

const readBuffer = Buffer.allocUnsafe(262_144)
// libuv fills the buffer right before it calls back, so all sockets can share it.
const onread = { buffer: readBuffer, callback: onRead }

/** The server answered an upgrade, but not by upgrading. */
export class RefusedError extends Error {
  constructor (head) {
    super(head.slice(0, head.indexOf('\r\n')))
    this.status = Number(head.slice(9, 12))
  }
}

/** A WebSocket that looks at a few bytes of a frame only, so that it costs less than the server it measures. */
export class Client {
  socket
  channels
  /** Index of its server. */
  server
  /** Code of the close frame it got, 1006 without one; undefined while it is open. */
  closeCode
  /** Commands whose replies have not come. */
  unanswered = 0
  #wire
  #counter
  #upgraded = false
  /** Bytes of a frame that has not come completely. */
  #rest
  /** Number of the last message of each publisher in each of its channels; between channels there is no order. */
  #last
  #opened
  #settled = false

  /** `counter`: what the client's messages are counted by, see load.mjs; none where none are to come. */
  constructor (wire, { server = 0, channels, counter }) {
    this.server = server
    this.channels = channels
    this.#wire = wire
    this.#counter = counter
    this.#last = counter === undefined ? [] : channels.map(() => counter.sentAt.map(() => -1))
  }

  /** Resolves when it is subscribed. */
  open (port, role, timeout) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.fail(new Error(`no connection within ${timeout / 1_000} s`))
        this.socket.resetAndDestroy()
      }, timeout)
      this.#opened = error => {
        clearTimeout(timer)
        if (error === undefined) resolve(this)
        else reject(error)
      }
      this.socket = connect({ port, host: '127.0.0.1', noDelay: true, onread })
      this.socket.client = this
      this.socket.on('error', () => {}) // 'close' follows
      this.socket.on('close', () => {
        this.closeCode ??= 1006
        this.fail(new Error('closed by the server while connecting'))
      })
      const path = this.#wire.path(role, this.channels)
      this.socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`)
    })
  }

  ready () {
    this.#settle()
  }

  answered () {
    if (--this.unanswered === 0) this.#settle()
  }

  fail (error) {
    this.#settle(error)
  }

  get isOpen () { return this.closeCode === undefined }

  message (bytes, at, now) {
    if (this.channels.length === 0) return // a publisher that is subscribed, so that it can be left out: it is none of the audience
    const publisher = publisherAt(bytes, at)
    const number = numberAt(bytes, at)
    const { sentAt, firstNumber, tally, channels, onMessage } = this.#counter
    if (number < firstNumber[publisher]) return
    const last = this.#last[channels === 1 ? 0 : this.channels.indexOf(channelAt(bytes, at))]
    if (last === undefined) {
      tally.strayed++
    } else if (number <= last[publisher]) {
      tally.disordered++
    } else {
      last[publisher] = number
      tally.received++
      // Only what came from another instance has crossed Redis in every server; where there is but one, all is counted.
      if (publisher !== this.server || sentAt.length === 1) tally.latency(now - sentAt[publisher][number])
      onMessage?.(publisher, number, now)
    }
  }

  #settle (error) {
    if (this.#settled) return
    this.#settled = true
    this.#opened(error)
  }

  /** Takes what the socket has read. */
  take (length, buffer) {
    let bytes = buffer
    let end = length
    if (this.#rest !== undefined) {
      bytes = Buffer.concat([this.#rest, buffer.subarray(0, length)])
      end = bytes.length
      this.#rest = undefined
    }
    const start = this.#upgraded ? 0 : this.#readUpgrade(bytes, end)
    const at = this.#upgraded ? this.#readFrames(bytes, start, end) : start
    if (at < end) this.#rest = Buffer.from(bytes.subarray(at, end))
  }

  /** Returns where frames begin; 0 as long as the head is not complete. */
  #readUpgrade (bytes, length) {
    const head = bytes.toString('latin1', 0, length)
    const end = head.indexOf('\r\n\r\n')
    if (end === -1) return length > MAX_HEAD ? length : 0
    if (!head.startsWith('HTTP/1.1 101')) {
      this.fail(new RefusedError(head))
      this.socket.destroy()
      return length
    }
    this.#upgraded = true
    this.#wire.opened(this)
    return end + 4
  }

  /** Returns where the first incomplete frame begins. */
  #readFrames (bytes, start, end) {
    const now = performance.now()
    let at = start
    while (end - at >= 2) {
      let header = 2
      let size = bytes[at + 1]
      if (size === 126) {
        if (end - at < 4) break
        header = 4
        size = bytes[at + 2] << 8 | bytes[at + 3]
      }
      if (end - at < header + size) break
      const payload = at + header
      const opcode = bytes[at] & 0xf
      if (opcode < CLOSE) this.#wire.read(this, bytes, payload, payload + size, now)
      else this.#control(opcode, bytes, payload, size)
      at = payload + size
    }
    return at
  }

  #control (opcode, bytes, at, size) {
    if (opcode === PING) {
      this.socket.write(frame(PONG, bytes.subarray(at, at + size)))
    } else if (opcode === CLOSE) {
      this.closeCode = size >= 2 ? bytes.readUInt16BE(at) : 1005
      this.socket.end()
    }
  }
}

function onRead (length, buffer) {
  this.client.take(length, buffer)
  return true
}
