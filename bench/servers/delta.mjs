// What delta.mjs measures: a channel without Redis, in which this process publishes a document that changes a little.
import Fastify from 'fastify'
import { answer } from '../answer.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)
const delta = process.env.BENCH_DELTA === 'on'
const bytes = Number(process.env.BENCH_BYTES)
/** Orders that change from one publication to the next. */
const CHANGES = 3

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: false,
  rateLimit: false,
  shutdown: false,
  maxConnections: 100_000,
  heartbeat: { interval: '10m' },
  // Only what is asked for: another build may be from before there were deltas.
  channels: { book: { subscribe: true, ...delta && { delta } } }
})
await app.listen({ port: 0, host: '127.0.0.1' })

/** An order book of about this many bytes of JSON. */
const book = { symbol: 'BTC-EUR', sequence: 0, bids: [], asks: [] }
for (let i = 0; JSON.stringify(book).length < bytes; i++) {
  book.bids.push([(90_000 - i).toFixed(2), (i / 7).toFixed(4)])
  book.asks.push([(90_001 + i).toFixed(2), (i / 11).toFixed(4)])
}

function change () {
  book.sequence++
  for (let i = 0; i < CHANGES; i++) {
    const orders = i % 2 === 0 ? book.bids : book.asks
    orders[Math.floor(Math.random() * orders.length)][1] = (Math.random() * 9).toFixed(4)
  }
}

/** Publishes so many, evenly over the time. */
async function publish (count, rate) {
  const startedAt = performance.now()
  await new Promise(resolve => {
    let published = 0
    const timer = setInterval(() => {
      for (const due = Math.min(count, (performance.now() - startedAt) * rate / 1_000); published < due; published++) {
        change()
        app.realtime.publish('book:x', book)
      }
      if (published < count) return
      clearInterval(timer)
      resolve()
    }, 1)
  })
}

answer({
  port: () => app.server.address().port,
  bytes: () => JSON.stringify(book).length,
  /** us of user and system time, all threads. */
  cpu: () => {
    const { user, system } = process.cpuUsage()
    return user + system
  },
  publish
})
