// Clients of compression.mjs, in a process of its own: they offer compression, and count bytes without a look at them.
import { connect } from 'node:net'
import { answer } from './answer.mjs'
import { frame } from './wires.mjs'

const TEXT = 1
/** Clients that are on their way in at the same time. */
const CONNECTING = 32
const COMMANDS = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:1"}}'

const readBuffer = Buffer.allocUnsafe(262_144)
const sockets = []
let bytes = 0
let closed = 0
let extensions = 0

function open (port) {
  return new Promise((resolve, reject) => {
    let upgraded = false
    const callback = length => {
      bytes += length
      if (upgraded) return true
      upgraded = true
      const head = readBuffer.toString('latin1', 0, length)
      if (!head.startsWith('HTTP/1.1 101')) reject(new Error(head.slice(0, 100)))
      if (/permessage-deflate/.test(head)) extensions++
      socket.write(frame(TEXT, Buffer.from(COMMANDS)))
      resolve()
      return true
    }
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread: { buffer: readBuffer, callback } })
    sockets.push(socket)
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => { closed++ })
    socket.write(`GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n')
  })
}

answer({
  async open ({ port, count }) {
    let left = count
    await Promise.all(Array.from({ length: Math.min(CONNECTING, count) }, async () => {
      while (left-- > 0) await open(port)
    }))
  },
  figures: () => ({ bytes, closed, extensions })
})
