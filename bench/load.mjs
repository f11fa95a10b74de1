// Opens the clients, publishes and counts what arrives, in a process of its own. It reads all sockets into one buffer and
// looks at a few bytes of a frame only, so that it costs less than the servers it measures.
import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from './answer.mjs'

/** Bytes of a message: letter of the publisher, number, filler. */
const MESSAGE_BYTES = 128
/** Digits of a message's number, 5 bits each, from '0' on: none needs escaping in JSON. */
const DIGITS = 4
const ZERO = 48
const LETTER_A = 65
/** Clients that are on their way in at the same time. */
const CONNECTING = 64
const CONNECT_TIMEOUT = 30_000
/** ms between two looks at whether everything has arrived; without progress for so many ms the rest counts as lost, and after so many anyway. */
const LOOK_INTERVAL = 50
const STALLED = 3_000
const ARRIVE_TIMEOUT = 30_000
/** Latencies are counted by 0.1 ms, up to 60 s. */
const PER_MS = 10
const LATENCIES = 60_000 * PER_MS

/** How each kind of server is spoken to: `prefix` and `suffix` surround the message in a frame's payload. */
const wires = {
  plain: {
    path: '/ws?',
    prefix: '',
    suffix: '',
    other (client, text) {
      if (text === 'ready') client.ready()
    }
  },
  'socket.io': {
    path: '/socket.io/?EIO=4&transport=websocket&',
    prefix: '42["m","',
    suffix: '"]',
    other (client, text) {
      if (text.startsWith('0{')) client.socket.write(frame(1, '40'))
      else if (text.startsWith('40{')) client.ready()
      else if (text === '2') client.socket.write(frame(1, '3'))
    }
  }
}

/** A masked frame; the mask is zero, so that the payload stays as it is. */
function frame (opcode, payload) {
  const length = Buffer.byteLength(payload)
  const header = length < 126 ? [0x80 | opcode, 0x80 | length] : [0x80 | opcode, 0x80 | 126, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([...header, 0, 0, 0, 0]), Buffer.from(payload)])
}

class Client {
  socket
  /** Index of its server. */
  server
  upgraded = false
  /** Bytes of a frame that has not come completely. */
  rest
  /** Number of the last message of each publisher. */
  last = [-1, -1]
  ready
  failed
}

let wire
let subscribers = []
let publishers = []
/** Sockets that a server has closed. */
let closed = 0
/** Of the publishers: when each of their messages was sent, by its number. */
let sentAt = [[], []]
/** Messages with lower numbers are left over from the round before. */
let firstNumber = [0, 0]
const tally = { received: 0, disordered: 0 }
const latencies = new Uint32Array(LATENCIES)

const readBuffer = Buffer.allocUnsafe(262_144)
const onread = { buffer: readBuffer, callback: onRead }

function open (port, server, role) {
  return new Promise((resolve, reject) => {
    const client = new Client()
    const timer = setTimeout(() => reject(new Error(`no connection within ${CONNECT_TIMEOUT / 1_000} s`)), CONNECT_TIMEOUT)
    client.server = server
    client.ready = () => {
      clearTimeout(timer)
      resolve(client)
    }
    client.failed = reject
    // libuv fills the buffer right before it calls back, so all sockets can share it.
    client.socket = connect({ port, host: '127.0.0.1', noDelay: true, onread })
    client.socket.client = client
    client.socket.on('error', () => {}) // 'close' follows
    client.socket.on('close', () => {
      closed++
      client.failed(new Error('closed by the server while connecting'))
    })
    client.socket.write(`GET ${wire.path}role=${role} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`)
  })
}

function onRead (length, buffer) {
  const { client } = this
  let bytes = buffer
  let end = length
  if (client.rest !== undefined) {
    bytes = Buffer.concat([client.rest, buffer.subarray(0, length)])
    end = bytes.length
    client.rest = undefined
  }
  const at = readFrames(client, bytes, client.upgraded ? 0 : readUpgrade(client, bytes, end), end)
  if (at < end) client.rest = Buffer.from(bytes.subarray(at, end))
  return true
}

function readUpgrade (client, bytes, length) {
  const head = bytes.toString('latin1', 0, length)
  const end = head.indexOf('\r\n\r\n')
  if (end === -1) return length
  if (!head.startsWith('HTTP/1.1 101')) {
    client.failed(new Error(head.slice(0, head.indexOf('\r\n'))))
    return length
  }
  client.upgraded = true
  return end + 4
}

/** Returns where the first incomplete frame begins. */
function readFrames (client, bytes, start, end) {
  const now = performance.now()
  const offset = wire.prefix.length
  const length = MESSAGE_BYTES + offset + wire.suffix.length
  let at = start
  while (end - at >= 2) {
    let header = 2
    let size = bytes[at + 1]
    if (size === 126) {
      if (end - at < 4) break
      header = 4
      size = bytes.readUInt16BE(at + 2)
    }
    if (end - at < header + size) break
    const payload = at + header
    if (size === length) count(client, bytes, payload + offset, now)
    else other(client, bytes[at] & 0xf, bytes, payload, size)
    at = payload + size
  }
  return at
}

function count (client, bytes, at, now) {
  const publisher = bytes[at] - LETTER_A
  let number = 0
  for (let i = 1; i <= DIGITS; i++) number = number << 5 | bytes[at + i] - ZERO
  if (number < firstNumber[publisher]) return
  if (number <= client.last[publisher]) {
    tally.disordered++
    return
  }
  client.last[publisher] = number
  tally.received++
  // Only what came from the other instance has crossed Redis in every server.
  if (publisher !== client.server) latencies[Math.min(LATENCIES - 1, (now - sentAt[publisher][number]) * PER_MS | 0)]++
}

function other (client, opcode, bytes, at, size) {
  if (opcode === 9) client.socket.write(frame(10, bytes.toString('latin1', at, at + size)))
  else if (opcode === 8) client.socket.end()
  else wire.other(client, bytes.toString('latin1', at, at + size))
}

function publish (publisher) {
  const number = sentAt[publisher].length
  let digits = ''
  for (let shift = 5 * (DIGITS - 1); shift >= 0; shift -= 5) digits += String.fromCharCode(ZERO + (number >> shift & 31))
  const message = `${String.fromCharCode(LETTER_A + publisher)}${digits}`.padEnd(MESSAGE_BYTES, '.')
  sentAt[publisher].push(performance.now())
  publishers[publisher].socket.write(frame(1, wire.prefix + message + wire.suffix))
}

/** Sends `total` messages at an even rate, from the publishers in turn. A turn that comes late sends all that are due. */
function publishAll (rate, total) {
  const startedAt = performance.now()
  let sent = 0
  return new Promise(resolve => {
    const timer = setInterval(() => {
      const due = Math.min(total, 1 + Math.floor((performance.now() - startedAt) * rate / 1_000))
      while (sent < due) publish(sent++ % publishers.length)
      if (sent < total) return
      clearInterval(timer)
      resolve()
    }, 1)
  })
}

async function arrived (expected) {
  const deadline = performance.now() + ARRIVE_TIMEOUT
  let before = tally.received
  let progressAt = performance.now()
  while (tally.received < expected && performance.now() < deadline && performance.now() - progressAt < STALLED) {
    await wait(LOOK_INTERVAL)
    if (tally.received > before) progressAt = performance.now()
    before = tally.received
  }
}

/** ms under which this share of the latencies lies. */
function percentile (share) {
  const total = latencies.reduce((sum, count) => sum + count, 0)
  let seen = 0
  for (let i = 0; i < LATENCIES; i++) {
    seen += latencies[i]
    if (seen > 0 && seen >= total * share) return (i + 1) / PER_MS
  }
  return Number.NaN
}

function cpu () {
  const { user, system } = process.cpuUsage()
  return user + system
}

answer({
  /** Opens `clients` that are subscribed, spread over the servers, and one publisher per server if `publishing`. */
  async connect ({ ports, clients, wireName, publishing }) {
    wire = wires[wireName]
    closed = 0
    sentAt = [[], []]
    publishers = publishing ? await Promise.all(ports.map((port, server) => open(port, server, 'publisher'))) : []
    subscribers = []
    let next = 0
    await Promise.all(Array.from({ length: CONNECTING }, async () => {
      while (next < clients) {
        const server = next++ % ports.length
        subscribers.push(await open(ports[server], server, 'subscriber'))
      }
    }))
  },

  /** Publishes for some seconds, then waits for what is still under way. Latencies in ms, CPU in us. */
  async publish ({ rate, seconds }) {
    const total = Math.round(rate * seconds)
    const expected = total * subscribers.length
    firstNumber = sentAt.map(times => times.length)
    tally.received = tally.disordered = 0
    latencies.fill(0)
    const closedBefore = closed
    const cpuBefore = cpu()
    await publishAll(rate, total)
    await arrived(expected)
    return {
      expected,
      ...tally,
      closed: closed - closedBefore,
      p50: percentile(0.5),
      p99: percentile(0.99),
      max: percentile(1),
      cpu: cpu() - cpuBefore
    }
  },

  closed: () => closed,

  disconnect () {
    for (const { socket } of [...subscribers, ...publishers]) socket.resetAndDestroy()
    subscribers = publishers = []
  }
})
