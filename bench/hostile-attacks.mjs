// What a hostile client does, in a process of its own. It speaks to 127.0.0.1 alone, for seconds.
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from './answer.mjs'
import { frame } from './wires.mjs'

const TEXT = 1
const PING = 9
const PONG = 10
const PLAIN = '/ws'
const SDK = '/connection/websocket'
/** Bytes that a client which floods may have waiting in its own socket. */
const WAITING = 4_194_304
/** ms that a connection may take to open. */
const OPEN_TIMEOUT = 5_000

const sockets = new Set()

async function openSocket (port) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  sockets.add(socket)
  socket.on('error', () => {}) // 'close' follows
  socket.on('close', () => sockets.delete(socket))
  await Promise.race([once(socket, 'connect'), wait(OPEN_TIMEOUT)])
  return socket
}

function requestUpgrade (socket, path, method = 'GET') {
  socket.write(`${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`)
}

/** A connection that is open, and reads. */
async function upgraded (port, path) {
  const socket = await openSocket(port)
  requestUpgrade(socket, path)
  await Promise.race([once(socket, 'data'), once(socket, 'close'), wait(OPEN_TIMEOUT)])
  socket.resume()
  return socket
}

/** A connection of an SDK that is in these channels. */
async function subscribed (port, channels) {
  const socket = await upgraded(port, SDK)
  socket.write(commands([{ connect: {} }, ...channels.map(channel => ({ subscribe: { channel } }))]))
  await Promise.race([once(socket, 'data'), wait(OPEN_TIMEOUT)])
  await wait(200)
  return socket
}

let id = 0
const commands = all => frame(TEXT, all.map(command => JSON.stringify({ id: ++id, ...command })).join('\n'))
const times = (count, make) => Array.from({ length: count }, (_, i) => make(i))

async function inParallel (count, make, atATime = 50) {
  const made = []
  while (made.length < count) made.push(...await Promise.all(times(Math.min(atATime, count - made.length), make)))
  return made
}

/** Repeats until time is up; gives way to the sockets, and waits while one takes no more. */
async function flood (seconds, all, bytes) {
  const end = Date.now() + seconds * 1_000
  while (Date.now() < end && all.some(({ destroyed }) => !destroyed)) {
    for (const socket of all) if (!socket.destroyed && socket.writableLength < WAITING) socket.write(bytes)
    await wait(0)
  }
}

const fragment = first => Buffer.from([first ? TEXT : 0, 0x81, 0, 0, 0, 0, 120])
const padded = (count, text) => text.padEnd(count, 'x')

/** By name; each gets the port and the seconds that it may take. */
const attacks = {
  async 'HEAD with Upgrade, then gone' (port) {
    for (const socket of await inParallel(500, () => openSocket(port))) {
      requestUpgrade(socket, PLAIN, 'HEAD')
      socket.end()
    }
  },
  async 'upgrades of /health' (port) {
    for (const socket of await inParallel(300, () => openSocket(port))) requestUpgrade(socket, '/health')
  },
  async 'upgrades while `authenticate` hangs, then gone' (port) {
    for (const socket of await inParallel(500, () => openSocket(port))) {
      requestUpgrade(socket, `${PLAIN}?authenticate=never`)
      socket.end()
    }
  },
  async 'half a request' (port) {
    for (const socket of await inParallel(500, () => openSocket(port))) socket.write('GET /ws HTTP/1.1\r\nHost: ')
  },
  async 'upgrades without end, each gone at once' (port, seconds) {
    const end = Date.now() + seconds * 1_000
    while (Date.now() < end) for (const socket of await inParallel(50, () => upgraded(port, PLAIN))) socket.destroy()
  },
  async 'fragments of one byte, 16,000 each' (port) {
    const all = await inParallel(400, () => upgraded(port, SDK))
    const fragments = Buffer.concat(times(16_000, i => fragment(i === 0)))
    for (const socket of all) socket.write(fragments)
  },
  async 'TCP segments of one byte' (port, seconds) {
    const all = await inParallel(50, () => upgraded(port, PLAIN))
    for (const socket of all) socket.write(frame(TEXT, padded(65_000, '')).subarray(0, 8))
    await flood(seconds, all, 'x')
  },
  async 'flood of messages' (port, seconds) {
    await flood(seconds, [await upgraded(port, PLAIN)], Buffer.concat(times(1_000, () => frame(TEXT, 'x'))))
  },
  async 'flood of pongs' (port, seconds) {
    await flood(seconds, [await upgraded(port, PLAIN)], Buffer.concat(times(10_000, () => frame(PONG, ''))))
  },
  async 'flood of pings, not reading' (port, seconds) {
    const all = await inParallel(4, () => upgraded(port, PLAIN))
    for (const socket of all) socket.pause()
    await flood(seconds, all, Buffer.concat(times(1_000, () => frame(PING, padded(100, '')))))
  },
  async 'messages of 60 KB to a handler that hangs' (port) {
    const all = await inParallel(50, () => upgraded(port, PLAIN))
    for (let i = 0; i < 80; i++) for (const socket of all) socket.write(frame(TEXT, padded(60_000, 'never ')))
  },
  async 'calls (rpc) of 60 KB that never end' (port, seconds) {
    const socket = await subscribed(port, [])
    const calls = count => times(count, () => socket.write(commands([{ rpc: { method: 'never', data: padded(60_000, '') } }])))
    calls(500)
    for (let i = 0; i < seconds * 10; i++) { // as many as the default of `rateLimit.messages` allows forever
      calls(9)
      await wait(100)
    }
  },
  async '990 × presence_stats in one frame, 300 members' (port) {
    await inParallel(300, () => upgraded(port, `${PLAIN}?subscribe`))
    const socket = await subscribed(port, ['chat:members'])
    socket.write(commands(times(990, () => ({ presence_stats: { channel: 'chat:members' } }))))
  },
  async '200 × history in one frame, 100 × 60 KB' (port) {
    const socket = await subscribed(port, ['chat:large'])
    socket.write(commands(times(200, () => ({ history: { channel: 'chat:large', limit: 100 } }))))
  },
  async '50 clients ask for a history of 6 MB, and do not read' (port) {
    for (const socket of await inParallel(50, () => subscribed(port, ['chat:large']))) {
      socket.pause()
      socket.write(commands([{ history: { channel: 'chat:large', limit: 100 } }]))
    }
  },
  async 'subscribes to names that nobody has published to' (port, seconds) {
    const end = Date.now() + seconds * 1_000
    for (let i = 0; Date.now() < end; i++) {
      const socket = await upgraded(port, SDK)
      socket.write(commands([{ connect: {} }, ...times(120, j => ({ subscribe: { channel: `chat:${process.pid}-${i}-${j}` } }))]))
      await Promise.race([once(socket, 'data'), wait(OPEN_TIMEOUT)])
      await wait(20)
      socket.destroy()
    }
  },
  async 'connections that never say `connect`' (port) {
    await inParallel(900, () => upgraded(port, SDK))
  }
}

answer({
  names: () => Object.keys(attacks),
  /** Takes the seconds at least. */
  attack: (name, port, seconds) => Promise.all([attacks[name](port, seconds), wait(seconds * 1_000)]).then(() => {}),
  leave () { for (const socket of sockets) socket.destroy() }
})
