// Bytes on the wire and the server's CPU with and without deltas, for a document that changes a little. Prints one
// Markdown table. See README.md.
import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { Child } from './child.mjs'
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { format, list, median } from './numbers.mjs'
import { readOptions } from './options.mjs'

/** Publications before anything is measured. */
const WARM_UP = 100
/** ms between two looks at what has arrived, and until what has not is lost. */
const LOOK = 20
const PATIENCE = 10_000
/** Clients that connect at once. */
const AT_ONCE = 50
const NEWLINE = 10

const options = readOptions(
  { clients: '100,1000', bytes: '1000,4000', rate: 20, seconds: 10, rounds: 3, plugin: defaultPlugin },
  { clients: '10', bytes: '1000', rate: 100, seconds: 0.5, rounds: 1 }
)

/** A client in the channel, which counts publications. */
class Subscriber {
  received = 0
  #socket

  async open (port, delta) {
    this.#socket = new WebSocket(`ws://127.0.0.1:${port}/connection/websocket`, { perMessageDeflate: false })
    await once(this.#socket, 'open')
    this.#socket.send(`{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"book:x"${delta ? ',"delta":"fossil"' : ''}}}`)
    await new Promise((resolve, reject) => {
      this.#socket.on('message', data => {
        if (data.includes('"pub"')) this.received += lines(data)
        else if (data.includes('"error"')) reject(new Error(`the subscribe was refused: ${data}`))
        else if (data.includes('"subscribe"')) delta && !data.includes('"delta":true') ? reject(new Error('this build has no deltas')) : resolve()
      })
      this.#socket.once('close', () => reject(new Error('the server has closed the connection')))
    })
  }

  /** Bytes from the socket, with all that is around the data. */
  get bytes () { return this.#socket._socket.bytesRead }

  close () {
    this.#socket.terminate()
  }
}

function lines (data) {
  let count = 1
  for (let i = data.indexOf(NEWLINE); i !== -1; i = data.indexOf(NEWLINE, i + 1)) count++
  return count
}

async function publish (server, subscribers, count, rate) {
  const before = subscribers.map(({ received, bytes }) => ({ received, bytes }))
  const cpu = await server.call('cpu')
  await server.call('publish', count, rate)
  const missing = () => subscribers.reduce((sum, { received }, i) => sum + before[i].received + count - received, 0)
  for (const until = performance.now() + PATIENCE; missing() > 0 && performance.now() < until;) await wait(LOOK)
  return {
    cpu: await server.call('cpu') - cpu,
    bytes: subscribers.reduce((sum, { bytes }, i) => sum + bytes - before[i].bytes, 0),
    lost: missing()
  }
}

async function measure ({ clients, bytes, delta }) {
  const env = { BENCH_PLUGIN: options.plugin, BENCH_DELTA: delta ? 'on' : 'off', BENCH_BYTES: String(bytes) }
  const server = new Child('servers/delta.mjs', { env })
  const subscribers = Array.from({ length: clients }, () => new Subscriber())
  try {
    const port = await server.call('port')
    for (let i = 0; i < clients; i += AT_ONCE) {
      await Promise.all(subscribers.slice(i, i + AT_ONCE).map(subscriber => subscriber.open(port, delta)))
    }
    await publish(server, subscribers, WARM_UP, 10 * options.rate)
    const count = Math.round(options.rate * options.seconds)
    const result = await publish(server, subscribers, count, options.rate)
    return { document: await server.call('bytes'), bytes: result.bytes / clients / count, cpu: result.cpu / clients / count, lost: result.lost }
  } finally {
    for (const subscriber of subscribers) subscriber.close()
    await server.stop()
  }
}

endByExit()
describeMachine()
const sizes = list(options.clients).map(Number)
needConnections(Math.max(...sizes))
const rows = sizes.flatMap(clients => list(options.bytes).flatMap(bytes => {
  return [false, true].map(delta => ({ clients, bytes: Number(bytes), delta, rounds: [] }))
}))
for (let round = 1; round <= options.rounds; round++) {
  // Who comes first must not always be the same.
  for (const row of round % 2 === 1 ? rows : rows.toReversed()) {
    console.error(`round ${round} of ${options.rounds}: ${row.clients} clients, ${row.bytes} bytes, ${row.delta ? 'with' : 'without'} delta`)
    row.rounds.push(await measure(row))
  }
}
const headings = ['clients', 'document, bytes', 'delta', 'bytes per delivery', 'server CPU per delivery, us', 'of all rounds', 'lost']
printMarkdown(headings, rows.map(({ clients, delta, rounds }) => {
  const cpus = rounds.map(({ cpu }) => cpu).sort((a, b) => a - b)
  const bytes = median(rounds.map(({ bytes }) => bytes))
  const lost = rounds.reduce((sum, { lost }) => sum + lost, 0)
  return [
    format(clients), format(rounds[0].document), delta ? 'yes' : 'no', format(Math.round(bytes)),
    median(cpus).toFixed(2), `${cpus[0].toFixed(2)} to ${cpus.at(-1).toFixed(2)}`, format(lost)
  ]
}), 0)
