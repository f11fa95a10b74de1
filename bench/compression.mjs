// What compression costs and saves: none, this plugin's, and that of `ws` for each socket. Prints two Markdown tables.
// See README.md.
import { setTimeout as wait } from 'node:timers/promises'
import { once } from 'node:events'
import { WebSocket } from 'ws'
import { Child } from './child.mjs'
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { format, list } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { egressPrice } from './prices.mjs'

const kinds = [
  { id: 'none', name: 'none' },
  { id: 'shared', name: '`compression: true`' },
  { id: 'ws', name: '`ws`, each socket, no context kept' },
  { id: 'context', name: '`ws`, each socket, contexts kept' }
]
const loads = [
  { id: 'chat', name: 'chat', message: 'chat', batchDelay: 0 },
  { id: 'batches', name: 'chat, `batchDelay: 200`', message: 'chat', batchDelay: 200 },
  { id: 'document', name: 'document', message: 'document', batchDelay: 0 }
]
const CLIENT_PROCESSES = 2
/** ms between two looks at what has come, and how many looks without a change say that all has. */
const LOOK_INTERVAL = 100
const QUIET_LOOKS = 6
const LOOKS = 400
/** Deliveries per second of the table of costs, one room for all: 1,000 instances, 250 clients each, 10 messages. */
const ROOM = 2_500_000
/** The costs are from the row with so many clients, or with the next fewer. */
const TYPICAL = 1_000
/** Publications before what is measured, so that the code is compiled and contexts are made. */
const WARM_UP_SECONDS = 1

const options = readOptions({
  kinds: 'none,shared,ws,context', loads: 'chat,batches,document', clients: '1,100,1000,5000', rate: 20, seconds: 4, plugin: defaultPlugin
}, { clients: '4', loads: 'chat', seconds: 1 })

async function measure (kind, { message, batchDelay }, clients) {
  const env = { BENCH_PLUGIN: options.plugin, BENCH_COMPRESSION: kind.id, BENCH_BATCH_DELAY: String(batchDelay) }
  const server = new Child('servers/compression.mjs', { env, execArgv: ['--expose-gc'] })
  const processes = Array.from({ length: Math.min(CLIENT_PROCESSES, clients) }, () => new Child('compression-clients.mjs'))
  try {
    const port = await server.call('port')
    // One client that reads what it gets: all must be there.
    const reader = await openReader(port)
    await publish(server, processes, { message, rate: 50 })
    const before = await server.call('memory')
    await Promise.all(processes.map((child, i) => child.call('open', { port, count: Math.floor((clients + i) / processes.length) })))
    for (let looks = 0; await server.call('subscribed') <= clients; looks++) {
      if (looks > LOOKS) throw new Error('not all clients are subscribed')
      await wait(LOOK_INTERVAL)
    }
    await publish(server, processes, { message, rate: options.rate })
    reader.publications = 0
    const from = await sum(server, processes)
    const published = await publish(server, processes, { message, rate: options.rate, seconds: options.seconds })
    const to = await sum(server, processes)
    const after = await server.call('memory')
    reader.socket.terminate()
    const deliveries = published * clients
    return {
      bytes: (to.bytes - from.bytes) / deliveries,
      cpu: (to.cpu - from.cpu) / (published * (clients + 1)),
      memory: (after.rss - before.rss) / clients,
      lost: published - reader.publications,
      closed: to.closed
    }
  } finally {
    await Promise.all([server, ...processes].map(child => child.stop()))
  }
}

/** Resolves when what was published has arrived. */
async function publish (server, processes, { message, rate, seconds = WARM_UP_SECONDS }) {
  const published = await server.call('publish', { message, rate, seconds })
  let last = -1
  for (let looks = 0, quiet = 0; quiet < QUIET_LOOKS && looks < LOOKS; looks++) {
    await wait(LOOK_INTERVAL)
    const { bytes } = await sum(server, processes)
    quiet = bytes === last ? quiet + 1 : 0
    last = bytes
  }
  return published
}

async function sum (server, processes) {
  const figures = await Promise.all(processes.map(child => child.call('figures')))
  const { cpu } = await server.call('figures')
  const total = name => figures.reduce((total, { [name]: number }) => total + number, 0)
  return { cpu, bytes: total('bytes'), closed: total('closed') }
}

async function openReader (port) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/connection/websocket`)
  const reader = { socket, publications: 0 }
  await once(socket, 'open')
  socket.on('message', data => { reader.publications += String(data).split('"pub":').length - 1 })
  socket.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:1"}}')
  await once(socket, 'message')
  return reader
}

endByExit()
describeMachine()
const counts = list(options.clients).map(Number)
needConnections(Math.max(...counts))
const chosen = loads.filter(({ id }) => list(options.loads).includes(id))
const results = []
for (const load of chosen) {
  for (const clients of counts) {
    for (const kind of kinds.filter(({ id }) => list(options.kinds).includes(id))) {
      console.error(`${load.name}, ${clients} clients: ${kind.name}`)
      results.push({ load, clients, kind, row: await measure(kind, load, clients) })
    }
  }
}
printMarkdown(
  ['messages', 'clients', 'compression', 'bytes on the wire per delivery', 'server CPU per delivery, us', 'memory per connection, KiB', 'lost, closed'],
  results.map(({ load, clients, kind, row: { bytes, cpu, memory, lost, closed } }) => [
    load.name, format(clients), kind.name, bytes.toFixed(0), cpu.toFixed(1), clients < 100 ? '' : (memory / 1_024).toFixed(1), `${lost}, ${closed}`
  ]), 3)
console.log('')
// With more of them the server is late, and more leaves in one message than in that room.
const typical = Math.max(...counts.filter(count => count <= TYPICAL))
printMarkdown(['messages', 'compression', 'MB/s to 250,000 clients', 'egress a month'], results.filter(({ clients }) => clients === typical).map(({ load, kind, row }) => [
  load.name, kind.name, format(Math.round(row.bytes * ROOM / 1e6)), `$${format(Math.round(egressPrice(row.bytes * ROOM)))}`
]), 2)
