// An instance whose metrics and log entries the parent reads, in the form that Cloud Monitoring has them in.
import { metrics } from '@opentelemetry/api'
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics'
import Fastify from 'fastify'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from '../answer.mjs'

/** Publications per second: to rooms, which have history, and to the ticker, which has none. */
const ROOM_RATE = 20
const TICKER_RATE = 2
const ROOMS = 10
/** ms that the process stays after the drain, as for a last export. */
const LAST_EXPORT = 2_000

class Reader extends MetricReader {
  async onForceFlush () {}
  async onShutdown () {}
}

const reader = new Reader()
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }))
const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

const entries = []
const app = Fastify({ logger: { stream: { write: line => entries.push(JSON.parse(line)) } }, disableRequestLogging: true })
app.addHook('onClose', () => wait(LAST_EXPORT)) // the first hook is the last to run
const closing = []
app.addHook('preClose', async () => closing.forEach(stop => stop()))
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  maxConnections: Number(process.env.MAX_CONNECTIONS),
  allowedOrigins: ['https://chat.example'],
  channels: { room: { subscribe: true, history: { size: 500, ttl: '5m' } }, ticker: { subscribe: true } }
})
await app.listen({ port: 0, host: '127.0.0.1' })

// As long as the plugin does not tell of its process itself.
const delay = monitorEventLoopDelay({ resolution: 10 })
delay.enable()
const ownPoints = () => {
  const p99 = delay.percentile(99) / 1e9
  delay.reset()
  return [
    { name: 'nodejs.eventloop.delay.p99', attributes: {}, value: p99 },
    { name: 'process.memory.usage', attributes: {}, value: process.memoryUsage.rss() }
  ]
}

let turn = 0
const publish = channel => app.realtime.publish(channel, `message ${turn++}`.padEnd(128, '.')).catch(() => {}) // counted by the plugin
for (const [rate, channel] of [[ROOM_RATE, () => `room:${turn % ROOMS}`], [TICKER_RATE, () => 'ticker:1']]) {
  const timer = setInterval(() => publish(channel()), 1_000 / rate)
  closing.push(() => clearInterval(timer))
}

answer({
  port: () => app.server.address().port,

  async collect () {
    const { resourceMetrics } = await reader.collect()
    const points = resourceMetrics.scopeMetrics.flatMap(scope => scope.metrics).flatMap(({ descriptor: { name }, dataPoints }) => {
      return dataPoints.flatMap(({ attributes, value }) => typeof value === 'number' ? [{ name, attributes, value }] : histogram(name, attributes, value))
    })
    const names = new Set(points.map(({ name }) => name))
    return { points: [...points, ...ownPoints().filter(({ name }) => !names.has(name))], entries: entries.splice(0) }
  }
})

function histogram (name, attributes, { buckets: { boundaries, counts }, count, sum }) {
  let below = 0
  const buckets = counts.map((one, i) => {
    below += one
    return { name: `${name}_bucket`, attributes: { ...attributes, le: String(boundaries[i] ?? '+Inf') }, value: below }
  })
  return [...buckets, { name: `${name}_count`, attributes, value: count }, { name: `${name}_sum`, attributes, value: sum }]
}
