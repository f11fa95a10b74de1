// Tests the built package with OpenTelemetry's API 1.10 and SDK 3, whatever the repository's own tests use. Every
// metric arrives and is the same as with SDK 2, through an SDK of the host's and through the one that the plugin
// starts.
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
// Those of the tests: .ci/run puts them here.
import { exportedMetric, shapesOf } from './metric-shapes.mts'
import { startOtlpServer } from './otlp.mts'

const read = path => JSON.parse(readFileSync(new URL(path, import.meta.url)))
const version = name => read(`node_modules/${name}/package.json`).version
assert.match(version('@opentelemetry/api'), /^1\.10\./)
assert.match(version('@opentelemetry/sdk-metrics'), /^3\./)
assert.match(read('node_modules/@opentelemetry/sdk-node/package.json').dependencies['@opentelemetry/sdk-metrics'], /^\^?3\./)
const expected = read('metrics.json')

async function until (condition) {
  while (!await condition()) await wait(20)
}

async function startRedis () {
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address()
  free.close()
  const redis = spawn(process.env.REDIS_SERVER || 'redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: 'ignore' })
  process.once('exit', () => redis.kill('SIGKILL'))
  return { url: `redis://127.0.0.1:${port}`, kill: () => redis.kill('SIGKILL') }
}

async function startApp (redis, beforeListening, log = () => {}) {
  const app = Fastify({ logger: { stream: { write: line => log(JSON.parse(line)) } } })
  await app.register(cloudRunWebSocket, {
    redis: redis.url,
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

/**
 * Makes everything happen to `here` that there is a metric for, until both are closed. Calls `collect` when there is
 * something new to see.
 */
async function use (redis, here, there, collect) {
  const host = `127.0.0.1:${here.server.address().port}`
  const refused = request(`http://${host}/ws`, { headers: { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==', origin: 'https://elsewhere.example' } }).end()
  assert.equal((await once(refused, 'response'))[0].statusCode, 403)
  const plain = new WebSocket(`ws://${host}/ws`)
  const sdk = new WebSocket(`ws://${host}/connection/websocket`)
  await Promise.all([once(plain, 'open'), once(sdk, 'open')])
  const connected = once(sdk, 'message')
  sdk.send('{"id":1,"connect":{}}')
  await connected
  const answered = once(sdk, 'message')
  sdk.send('{"id":2,"subscribe":{"channel":"nowhere:1"}}')
  await answered
  const delivered = once(plain, 'message')
  plain.send('hello')
  await until(() => [...here.realtime.connections].every(({ channels }) => channels.has('chat:1')))
  await there.realtime.publish('chat:1', 'from another instance')
  await delivered
  redis.kill()
  await until(async () => (await here.inject('/ready')).json().redis === 'down')
  await assert.rejects(here.realtime.publish('chat:1', 'x'))
  await collect()
  await Promise.all([here.close(), there.close()])
}

async function withTheirs () {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })] })
  const seen = []
  const collect = async () => {
    exporter.reset()
    await provider.forceFlush()
    for (const { scope, metrics } of exporter.getMetrics()[0].scopeMetrics) if (scope.name === 'fastify-cloud-run-websocket') seen.push(...metrics.map(exportedMetric))
  }
  const redis = await startRedis()
  // An SDK that comes after the plugin is found too: with this API too it can be told that there was none.
  await use(redis, await startApp(redis, () => { metrics.setGlobalMeterProvider(provider) }), await startApp(redis, () => {}), collect)
  await collect()
  metrics.disable()
  await provider.shutdown()
  assert.deepEqual(shapesOf(seen), expected)
}

async function withOurs () {
  let end
  const otlp = await startOtlpServer({ teardown: given => { end = given } })
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = otlp.url
  const log = []
  const redis = await startRedis()
  const [here, there] = [
    await startApp(redis, () => {}, entry => log.push(entry)),
    await startApp(redis, () => {}, entry => log.push(entry))
  ]
  await until(() => log.some(({ event }) => event?.startsWith('telemetry.')))
  await use(redis, here, there, () => metrics.getMeterProvider().forceFlush())
  end()
  assert.deepEqual(log.filter(({ event }) => event?.startsWith('telemetry.')).map(({ event, url }) => ({ event, url })), [{ event: 'telemetry.started', url: `${otlp.url}/v1/metrics` }])
  const own = ({ name }) => name.startsWith('websocket.')
  assert.deepEqual(shapesOf(otlp.requests.flatMap(({ metrics }) => metrics.filter(own))), expected)
  assert.deepEqual([...new Set(otlp.requests.flatMap(({ metrics }) => metrics.filter(metric => !own(metric)).map(({ name }) => name)))].sort(), ['nodejs.eventloop.delay.p99', 'process.memory.usage'])
}

await withTheirs()
await withOurs()
