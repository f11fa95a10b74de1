// What one busy instance sends to be watched: samples of one export, as Google counts them, and the log entries of a
// connection. For the command `plan` and docs/watching-costs.md:
// `npm run build && node bench/watching.mjs > lib/cli/plan/watching.json`. The buckets differ a little from run to run.
import { Centrifuge } from 'centrifuge'
import Fastify from 'fastify'
import { once } from 'node:events'
import { availableParallelism, cpus } from 'node:os'
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import protobuf from 'protobufjs'
import WebSocket from 'ws'
import { startRedis } from './redis.mjs'

const Request = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated ResourceMetrics resource_metrics = 1; }
  message ResourceMetrics { repeated ScopeMetrics scope_metrics = 2; }
  message ScopeMetrics { repeated Metric metrics = 2; }
  message Metric { string name = 1; oneof data { Numbers gauge = 5; Numbers sum = 7; Histograms histogram = 9; } }
  message Numbers { repeated Point points = 1; }
  message Histograms { repeated Point points = 1; }
  message Point { repeated fixed64 bucket_counts = 6; }
`).root.lookupType('Request')

const exported = []
const server = createServer(async (request, response) => {
  const body = await buffer(request)
  exported.push(Request.toObject(Request.decode(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body), { longs: Number }))
  response.setHeader('content-type', 'application/x-protobuf').end()
}).listen(0, '127.0.0.1')
await once(server, 'listening')
process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${server.address().port}`
process.env.OTEL_METRIC_EXPORT_INTERVAL = '10000'
// What the entries look like on Cloud Run.
Object.assign(process.env, { GOOGLE_CLOUD_PROJECT: 'my-project', K_SERVICE: 'chat', K_REVISION: 'chat-00042-abc' })

const { default: plugin, cloudLogging } = await import(process.env.BENCH_PLUGIN ?? '../dist/index.js')
const redis = await startRedis()
const lines = []
const start = async () => {
  const app = Fastify({ logger: { ...cloudLogging(), stream: { write: line => lines.push(line) } } })
  await app.register(plugin, { redis: redis.url, channels: { room: { subscribe: true, publish: true, history: { size: 100, ttl: '5m' } } } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}
const app = await start()
const { port } = app.server.address()
// It publishes too, in the same process and with the same SDK: only what another one has published has a lag.
const other = await start()
await wait(3_000) // until the SDK has started: histograms have nothing from before
/** What Cloud Run's front end adds. */
const headers = {
  'x-cloud-trace-context': '105445aa7843bc8bf206b12000100000/1;o=1',
  'x-forwarded-for': '203.0.113.7',
  'x-forwarded-proto': 'https',
  'user-agent': 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'
}
class FromFrontEnd extends WebSocket {
  constructor (url, protocols) {
    super(url, protocols, { headers })
  }
}
const plain = Array.from({ length: 20 }, () => new FromFrontEnd(`ws://127.0.0.1:${port}/ws`))
await Promise.all(plain.map(socket => once(socket, 'open')))
const sdks = Array.from({ length: 20 }, () => new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, { websocket: FromFrontEnd }))
const subscriptions = sdks.map(sdk => {
  const subscription = sdk.newSubscription('room:1')
  subscription.subscribe()
  sdk.connect()
  return subscription
})
await Promise.all(subscriptions.map(one => one.ready()))
for (let i = 0; i < 200; i++) {
  await subscriptions[i % 20].publish({ i })
  await other.realtime.publish('room:1', { i })
}
sdks.slice(0, 5).forEach(sdk => sdk.disconnect())
plain.slice(0, 10).forEach(socket => socket.close())
plain.slice(10, 12).forEach(socket => socket.terminate())
const before = exported.length
while (exported.length < before + 2) await wait(100)

const metrics = exported.at(-1).resourceMetrics.flatMap(one => one.scopeMetrics).flatMap(({ metrics }) => metrics)
const numbers = metrics.flatMap(({ gauge, sum }) => (gauge ?? sum)?.points ?? []).length
const histograms = metrics.flatMap(({ histogram }) => histogram?.points ?? [])
const buckets = histograms.map(({ bucketCounts = [] }) => bucketCounts.filter(count => count > 0).length)
const samples = numbers + histograms.length * 2 + buckets.reduce((sum, count) => sum + count, 0)
const bytesOf = text => {
  const some = lines.filter(line => line.includes(text))
  return Math.round(some.reduce((sum, line) => sum + Buffer.byteLength(line), 0) / some.length)
}
console.log(JSON.stringify({
  date: new Date().toISOString().slice(0, 10),
  machine: `${availableParallelism()} cores, ${cpus()[0]?.model ?? 'unknown'}; Node.js ${process.versions.node}`,
  source: 'node bench/watching.mjs',
  numbers,
  histograms: histograms.length,
  buckets: buckets.reduce((sum, count) => sum + count, 0),
  samples,
  entryBytes: { opened: bytesOf('connection.opened'), closed: bytesOf('connection.closed'), request: bytesOf('incoming request') }
}, undefined, 2))
sdks.forEach(sdk => sdk.disconnect())
process.exit(await redis.stop())
