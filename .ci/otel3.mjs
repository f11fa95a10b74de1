// The built package with OpenTelemetry's API 1.10 and SDK 3, whatever the repository's own tests use: every instrument arrives.
import { metrics } from '@opentelemetry/api'
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import Fastify from 'fastify'
import cloudRunWebSocket from 'fastify-cloud-run-websocket'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

const version = name => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version
assert.match(version('@opentelemetry/api'), /^1\.10\./)
assert.match(version('@opentelemetry/sdk-metrics'), /^3\./)
const readme = readFileSync(new URL('node_modules/fastify-cloud-run-websocket/README.md', import.meta.url), 'utf8')
const metricNames = Array.from(readme.matchAll(/^\| `(websocket\.[a-z_.]+)` \|/gm), ([, name]) => name)
assert.ok(metricNames.length > 10)

const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
const provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })] })

const free = createServer().listen(0, '127.0.0.1')
await once(free, 'listening')
const { port } = free.address()
free.close()
const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: 'ignore' })
process.once('exit', () => redis.kill('SIGKILL'))

async function until (condition) {
  while (!await condition()) await wait(20)
}

async function start (beforeListening) {
  const app = Fastify()
  await app.register(cloudRunWebSocket, {
    redis: `redis://127.0.0.1:${port}`,
    shutdown: { signals: false, timeout: 1_000 },
    allowedOrigins: [],
    channels: { chat: { history: { size: 10, ttl: '1m' } } },
    onConnect: connection => connection.subscribe('chat:1', connection.protocol === 'plain' ? { since: { offset: 0, epoch: '' } } : {}),
    onMessage: () => {}
  })
  beforeListening()
  await app.listen({ port: 0, host: '127.0.0.1' })
  await until(async () => (await app.inject('/ready')).statusCode === 200)
  return app
}

// An SDK that comes after the plugin is found too: with this API too it can be told that there was none.
const [here, there] = [await start(() => { metrics.setGlobalMeterProvider(provider) }), await start(() => {})]
const host = `127.0.0.1:${here.server.address().port}`
const refused = request(`http://${host}/ws`, { headers: { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==', origin: 'https://elsewhere.example' } }).end()
assert.equal((await once(refused, 'response'))[0].statusCode, 403)
const plain = new WebSocket(`ws://${host}/ws`)
const sdk = new WebSocket(`ws://${host}/connection/websocket`)
await Promise.all([once(plain, 'open'), once(sdk, 'open')])
const answered = once(sdk, 'message')
sdk.send('{"id":1,"connect":{}}')
await answered
const delivered = once(plain, 'message')
plain.send('hello')
await until(() => [...here.realtime.connections].every(({ channels }) => channels.has('chat:1')))
await there.realtime.publish('chat:1', 'from another instance')
await delivered

const seen = new Set()
async function collect () {
  exporter.reset()
  await provider.forceFlush()
  for (const { scope, metrics } of exporter.getMetrics()[0]?.scopeMetrics ?? []) {
    if (scope.name === 'fastify-cloud-run-websocket') for (const { descriptor, dataPoints } of metrics) if (dataPoints.length > 0) seen.add(descriptor.name)
  }
}
await collect()
await Promise.all([here.close(), there.close()])
await collect()
assert.deepEqual([...seen].sort(), Object.values(metricNames).sort())
await provider.shutdown()
redis.kill('SIGKILL')
