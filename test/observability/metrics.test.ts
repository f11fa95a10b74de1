import { metrics } from '@opentelemetry/api'
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import type { DataPoint, Histogram, MetricData } from '@opentelemetry/sdk-metrics'
import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'
import { metricNames, registeredInstruments } from '../../lib/observability/instruments.ts'
import type { Sample } from '../../lib/observability/instruments.ts'
import { Metrics } from '../../lib/observability/metrics.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { exportedMetric, shapesOf } from '../helpers/metric-shapes.ts'
import { freePort } from '../helpers/free-port.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { openStream, post, streamClient, streamTransports } from '../helpers/streams.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

EventEmitter.defaultMaxListeners = 100

/** What .ci/otel3.mjs expects of another SDK too. */
const expected = JSON.parse(readFileSync(new URL('../fixtures/metrics.json', import.meta.url), 'utf8'))

/** A real SDK, registered before the plugin is. */
function startSdk (t: Test) {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })] })
  metrics.setGlobalMeterProvider(provider)
  t.teardown(async () => {
    metrics.disable()
    await provider.shutdown()
  })
  const collect = async () => {
    exporter.reset()
    await provider.forceFlush()
    const scope = exporter.getMetrics()[0]?.scopeMetrics.find(({ scope }) => scope.name === 'fastify-cloud-run-websocket')
    return new Map(scope?.metrics.map(metric => [metric.descriptor.name, metric]))
  }
  return collect
}

/** Value by attributes. */
function points (metric: MetricData | undefined): Record<string, number> {
  const all = (metric?.dataPoints ?? []) as Array<DataPoint<number | Histogram>>
  return Object.fromEntries(all.map(({ attributes, value }) => [Object.values(attributes).join(' '), typeof value === 'number' ? value : value.count]))
}

const total = (metric: MetricData | undefined) => Object.values(points(metric)).reduce((sum, value) => sum + value, 0)

const noCloses = { client: 0, server: 0, deadline: 0, drain: 0, heartbeat: 0, slow: 0, policy: 0, error: 0, abnormal: 0 }
const noRejections = { capacity: 0, origin: 0, auth: 0, auth_failed: 0, rate_limit: 0, draining: 0 }
/** More of them with `fallback`. */
const noPosts = { post_unknown: 0, post_limit: 0, post_unanswered: 0 }

/** Connections are open, or have ended by one of the causes; none is forgotten, and none counts twice. */
function checkBalance (t: Test, all: Map<string, MetricData>, expected: number): void {
  t.equal(total(all.get(metricNames.opened)) - total(all.get(metricNames.closed)), total(all.get(metricNames.active)))
  t.equal(total(all.get(metricNames.opened)), expected)
}

/** How often each command was answered, by its name and error type. */
const commands = (metric: MetricData | undefined) => Object.fromEntries(metric?.dataPoints.map(({ attributes, value }) =>
  [`${attributes['websocket.command']} ${attributes['error.type'] ?? ''}`, (value as { count: number }).count]) ?? [])

t.test('every metric has its name, unit and attributes', async (t) => {
  const collect = startSdk(t)
  const redis = await startRedis(t)
  const options: Options = {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    channels: { chat: { history: { size: 10, ttl: '1m' } }, price: { history: { size: 1, ttl: '1m', recover: 'cache' } } },
    allowedOrigins: ['https://a.example'],
    onMessage: (connection, data) => connection.send(`${data}!`)
  }
  const a = await startApp(t, { ...options, maxConnections: 77 })
  const client = await connect(t, `${a.url}/ws`)
  client.send('four')
  t.equal(await client.next(), 'four!')
  await rejected(`${a.url}/ws`, { headers: { origin: 'https://b.example' } })
  const [connection] = a.app.realtime.connections
  const { epoch } = await a.app.realtime.publish('chat:1', 'x')
  await connection!.subscribe('chat:1', { since: { offset: 0, epoch: epoch! } })
  await connection!.subscribe('chat:2', { since: { offset: 5, epoch: 'other' } })
  await connection!.subscribe('price:1') // reads the last value, and names no position
  await connection!.unsubscribe('price:1')

  let all = await collect()
  const seen = [...all.values()]
  t.strictSame(points(all.get(metricNames.active)), { plain: 1, json: 0, protobuf: 0 })
  t.strictSame(points(all.get(metricNames.limit)), { '': 77 })
  t.strictSame(points(all.get(metricNames.messages)), { 'plain receive': 1, 'plain transmit': 2, 'json receive': 0, 'json transmit': 0, 'protobuf receive': 0, 'protobuf transmit': 0 })
  t.strictSame(points(all.get(metricNames.io)), { receive: 4, transmit: 6 })
  t.strictSame(points(all.get(metricNames.subscriptions)), { '': 2 })
  t.strictSame(points(all.get(metricNames.opened)), { plain: 1, json: 0, protobuf: 0 })
  t.strictSame(points(all.get(metricNames.rejected)), { ...noRejections, origin: 1 })
  t.strictSame(points(all.get(metricNames.downtime)), { '': 0 })
  t.strictSame(points(all.get(metricNames.recoveries)), { recovered: 1, unrecovered: 1 })
  t.strictSame(points(all.get(metricNames.up)), { '': 1 })
  t.strictSame(Object.keys(points(all.get(metricNames.publishDuration))), [''])

  // Another instance in this process has the same instruments; what it publishes is seen here.
  const b = await startApp(t, { ...options, telemetry: false })
  await b.app.realtime.publish('chat:1', 'from b')
  await until(() => client.messages.includes('from b'), 'it has arrived')
  await command(redis.port, ['PUBLISH', `${options.keyPrefix}:pub:{chat:1}`, 'not ours'])
  await until(async () => total((await collect()).get(metricNames.missed)) === 1, 'what can not be read is counted')

  await redis.kill()
  await until(async () => points((await collect()).get(metricNames.up))[''] === 0, 'the bridge is down')
  await t.rejects(a.app.realtime.publish('chat:1', 'x'), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  client.socket.close()
  await until(() => [...a.app.realtime.connections].length === 0, 'the client is gone')
  all = await collect()
  t.equal(points(all.get(metricNames.publishDuration)).FST_CRWS_REDIS_UNAVAILABLE, 1)
  t.strictSame(points(all.get(metricNames.duration)), { 'plain client': 1 })
  t.strictSame(points(all.get(metricNames.deliveryLag)), { '': 1 })
  t.strictSame(points(all.get(metricNames.active)), { plain: 0, json: 0, protobuf: 0 })
  t.strictSame(points(all.get(metricNames.io)), { receive: 4, transmit: 12 }, 'what ended connections did still counts')
  const sdk = await connect(t, `${a.url}/connection/websocket`)
  sdk.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"nowhere:1"}}')
  await until(() => sdk.messages.length === 2, 'both commands are answered')
  t.strictSame(await sdk.next().then(reply => JSON.parse(String(reply)).connect.pong), true)
  all = new Map([...all, ...await collect()])
  t.strictSame(commands(all.get(metricNames.commandDuration)), { 'connect ': 1, 'subscribe 102': 1 })
  await a.app.close()
  const closed = await collect()
  t.strictSame(points(closed.get(metricNames.drainDuration)), { '': 1 })

  seen.push(...all.values(), ...closed.values())
  t.strictSame(Object.keys(expected).sort(), Object.values(metricNames).sort())
  t.strictSame(shapesOf(seen.map(exportedMetric)), expected, 'all of them, and no others')
  t.ok(seen.every(({ descriptor }) => descriptor.description !== ''))
})

t.test('metrics that are collected after app.close() have the final values', async (t) => {
  const collect = startSdk(t)
  const { app, url } = await startApp(t, { onMessage: (connection, data) => connection.send(data) })
  const clients = await Promise.all([1, 2, 3].map(() => connect(t, `${url}/ws`)))
  t.match(points((await collect()).get(metricNames.active)), { plain: 3 })
  for (const client of clients) {
    client.send('hi')
    await client.next()
  }
  await app.close()
  for (const time of ['first', 'second']) {
    const all = await collect()
    t.match(points(all.get(metricNames.active)), { plain: 0 }, time)
    t.match(points(all.get(metricNames.messages)), { 'plain receive': 3, 'plain transmit': 6 }, 'with the notice that each got')
  }
})

t.test('the counters are at zero again after every way in which a connection can end', async (t) => {
  const collect = startSdk(t)
  let refuse = false
  const { app, url } = await startApp(t, {
    maxPayload: 1_000,
    maxBufferedBytes: 50_000,
    maxConnections: 12,
    allowedOrigins: [],
    heartbeat: { interval: 100, timeout: 300 },
    rateLimit: { connections: { max: 100, timeWindow: '1m' }, messages: { max: 20, timeWindow: '1h' } },
    authenticate: ({ headers }) => {
      if (refuse) throw new Error('no')
      return { user: 'ann', ...(headers['x-expires'] !== undefined && { expiresAt: Date.now() / 1_000 - 1 }) }
    },
    onConnect: async (connection) => {
      await connection.subscribe('a')
      await connection.subscribe('b')
    },
    onMessage: (connection, data) => {
      if (data === 'throw') throw new Error('boom')
      if (data === 'close') connection.close(4000, 'enough')
      if (data === 'disconnect') return app.realtime.disconnect({ client: connection.id })
      if (data === 'slow') while (connection.send('x'.repeat(10_000)));
    }
  })
  const open = async (headers: Record<string, string> = {}, autoPong = true) => connect(t, `${url}/ws`, { headers, autoPong })
  const subscriptions = async () => points((await collect()).get(metricNames.subscriptions))['']
  const staying = await Promise.all(Array.from({ length: 3 }, () => open()))
  await until(async () => await subscriptions() === 6, 'all are in both channels')

  const endings: Record<string, () => Promise<unknown>> = {
    client: async () => { (await open()).socket.close() },
    abnormal: async () => { (await open()).socket.terminate() },
    error: async () => { (await open()).send('throw') },
    server: async () => {
      (await open()).send('close')
      ;(await open()).send('disconnect')
    },
    policy: async () => {
      (await open()).send('x'.repeat(1_001))
      const flooder = await open()
      for (let i = 0; i < 100; i++) flooder.send('x')
      const raw = await openRaw(t, url)
      raw.socket.write(Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(TEXT, Buffer.from([0xff]))]))
      await open({ 'x-expires': '1' })
    },
    slow: async () => {
      const slow = await open()
      slow.send('slow')
      slow.socket.pause()
    },
    heartbeat: async () => { await open({}, false) }
  }
  for (const end of Object.values(endings)) await end()
  await until(() => [...app.realtime.connections].length === 3, 'all these are gone', 30_000)

  await rejected(`${url}/ws`, { headers: { origin: 'https://a.example' } })
  refuse = true
  await rejected(`${url}/ws`)
  refuse = false
  const more = await Promise.all(Array.from({ length: 9 }, () => open()))
  await rejected(`${url}/ws`)
  for (const client of more) client.socket.close()
  await until(() => [...app.realtime.connections].length === 3, 'the last ones stay')
  await until(async () => {
    try {
      (await open()).socket.close()
      return false
    } catch {
      return true
    }
  }, 'the rate limit')

  await until(() => [...app.realtime.connections].length === 3, 'the last ones stay')
  t.equal(await subscriptions(), 6)
  const before = await collect()
  t.strictSame(points(before.get(metricNames.active)), { plain: 3, json: 0, protobuf: 0 })
  const rejections = points(before.get(metricNames.rejected))
  t.match(rejections, { origin: 1, auth: 1 })
  t.ok(rejections.capacity! >= 1)
  t.ok(rejections.rate_limit! >= 1)
  const causes = points(before.get(metricNames.duration))
  t.strictSame(Object.keys(causes).sort(), Object.keys(endings).map(cause => `plain ${cause}`).sort(), 'every cause')
  t.match(causes, { 'plain abnormal': 1, 'plain error': 1, 'plain server': 2, 'plain policy': 4, 'plain slow': 1, 'plain heartbeat': 1 })
  const closed = points(before.get(metricNames.closed))
  t.strictSame(Object.keys(closed), Object.keys(noCloses))
  t.strictSame(Object.fromEntries(Object.entries(closed).filter(([, count]) => count > 0).map(([cause, count]) => [`plain ${cause}`, count])), causes)
  checkBalance(t, before, 3 + total(before.get(metricNames.duration)))

  staying[0]!.socket.pause() // is cut by the drain
  const drained = app.close()
  // The gauges are read while the app closes; afterwards there is nothing left to read.
  await until(async () => (await collect()).get(metricNames.drainDuration) !== undefined, 'the drain has ended')
  await drained
  const after = await collect()
  t.equal(points(after.get(metricNames.duration))['plain drain'], 3)
  t.match(points(after.get(metricNames.closed)), { ...closed, drain: 3 })
  checkBalance(t, after, total(before.get(metricNames.opened)))
  t.strictSame([...app.realtime.connections], [])
})

t.test('at the deadline connections are counted as such, and every counter is at zero', async (t) => {
  const collect = startSdk(t)
  const { app, url } = await startApp(t, { maxConnectionAge: 1_000, heartbeat: { interval: '10s', timeout: 50 }, onConnect: connection => connection.subscribe('a') })
  await Promise.all(Array.from({ length: 5 }, () => connect(t, `${url}/ws`)))
  await until(() => [...app.realtime.connections].length === 0, 'all are gone')
  const all = await collect()
  t.strictSame(points(all.get(metricNames.duration)), { 'plain deadline': 5 })
  t.strictSame(points(all.get(metricNames.closed)), { ...noCloses, deadline: 5 })
  t.strictSame(points(all.get(metricNames.active)), { plain: 0, json: 0, protobuf: 0 })
  t.strictSame(points(all.get(metricNames.subscriptions)), { '': 0 })
})

t.test('counters have all their series before anything has happened, so that the first event is an increase', async (t) => {
  const collect = startSdk(t)
  await startApp(t)
  const all = await collect()
  t.strictSame(points(all.get(metricNames.opened)), { plain: 0, json: 0, protobuf: 0 })
  t.strictSame(points(all.get(metricNames.closed)), noCloses)
  t.strictSame(points(all.get(metricNames.rejected)), noRejections)
  t.strictSame(points(all.get(metricNames.recoveries)), { recovered: 0, unrecovered: 0 })
  t.strictSame(points(all.get(metricNames.missed)), { '': 0 })
  t.strictSame(points(all.get(metricNames.downtime)), { '': 0 }, 'without Redis nothing is down')
})

t.test('what a drain closes is an increase between the last two exports, on every route', async (t) => {
  const collect = startSdk(t)
  const { app, url } = await startApp(t)
  await Promise.all([1, 2].map(() => connect(t, `${url}/ws`)))
  await connect(t, `${url}/connection/websocket`)
  await connect(t, `${url}/connection/websocket?format=protobuf`)
  const before = await collect()
  t.strictSame(points(before.get(metricNames.opened)), { plain: 2, json: 1, protobuf: 1 })
  t.strictSame(points(before.get(metricNames.closed)), noCloses)
  await app.close()
  const last = await collect()
  t.strictSame(points(last.get(metricNames.closed)), { ...noCloses, drain: 4 })
  checkBalance(t, last, 4)
})

t.test('of two apps in a process opened and closed are the sum, and stay when one is closed', async (t) => {
  const collect = startSdk(t)
  const [a, b] = [await startApp(t), await startApp(t)]
  await Promise.all([a, a, b].map(({ url }) => connect(t, `${url}/ws`)))
  checkBalance(t, await collect(), 3)
  await a.app.close()
  const all = await collect()
  checkBalance(t, all, 3)
  t.strictSame(points(all.get(metricNames.closed)), { ...noCloses, drain: 2 })
})

t.test('downtime grows while Redis is down, and is that of the app that is worst off', async (t) => {
  const collect = startSdk(t)
  const downtime = async () => points((await collect()).get(metricNames.downtime))['']!
  const redis = await startRedis(t)
  const a = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix() })
  const b = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix() })
  await startApp(t) // has no Redis, so that it cannot be down
  t.equal(await downtime(), 0)
  const startedAt = performance.now()
  await redis.kill()
  const first = await until(downtime, 'it counts')
  await until(async () => await downtime() > first, 'it grows')
  await redis.restart()
  await until(async () => (await Promise.all([a, b].map(({ app }) => app.inject('/ready')))).every(ready => ready.json().redis === 'up'), 'both are up')
  const after = await downtime()
  t.ok(after <= (performance.now() - startedAt) / 1_000, 'two apps that are down for a second are one second')
  t.equal(await downtime(), after, 'and then it stands')
  await Promise.all([a.app.close(), b.app.close()])
  t.equal(await downtime(), after, 'it stays when they are closed')
})

t.test('the downtime of an app that is closed is added to that of later ones, and counts once for those that were down with it', async (t) => {
  const collect = startSdk(t)
  const downtime = async () => points((await collect()).get(metricNames.downtime))['']!
  const instruments = registeredInstruments()!
  const appThatIsDown = (seconds: number) => {
    const app = { seconds, samples: (): Sample[] => [['downtime', app.seconds * 1_000]] }
    instruments.add(app)
    return app
  }
  const first = appThatIsDown(10)
  instruments.remove(first)
  const next = appThatIsDown(2)
  t.equal(await downtime(), 12)
  const other = appThatIsDown(1)
  t.equal(await downtime(), 12, 'of those that are open the one that is worst off')
  instruments.remove(next)
  t.equal(await downtime(), 12, 'it does not jump when one is closed')
  other.seconds = 4
  t.equal(await downtime(), 15)
})

t.test('an app that never had Redis was down since its start', async (t) => {
  const collect = startSdk(t)
  await startApp(t, { redis: `redis://127.0.0.1:${await freePort()}`, keyPrefix: randomPrefix() })
  t.ok(points((await collect()).get(metricNames.downtime))['']! > 1, 'its start has waited for Redis')
})

t.test('of a lag below zero it is recorded that there was one, as zero: to leave some out would leave the slow ones', async (t) => {
  const collect = startSdk(t)
  const metrics = new Metrics()
  await metrics.bind()
  for (const lag of [-1_000, -1, 0, 3]) metrics.delivered(lag)
  const lags = (await collect()).get(metricNames.deliveryLag)!.dataPoints[0]!.value as Histogram
  t.match(lags, { count: 4, min: 0, max: 0.003 })
})

t.test('what stands in for a WebSocket is counted by its transport, where there is such a thing', async (t) => {
  const collect = startSdk(t)
  const { app, url } = await startApp(t, { fallback: true })
  const none = { plain: 0, json: 0, protobuf: 0, http_stream_json: 0, http_stream_protobuf: 0, sse_json: 0, uni_sse: 0 }
  t.strictSame(points((await collect()).get(metricNames.opened)), none)
  for (const [transport, encoding] of streamTransports) await streamClient(t, url, transport, encoding).connected()
  const all = await collect()
  const each = { ...none, http_stream_json: 1, http_stream_protobuf: 1, sse_json: 1 }
  t.strictSame(points(all.get(metricNames.active)), each)
  t.match(points(all.get(metricNames.messages)), { 'sse_json receive': 1, 'sse_json transmit': 1, 'uni_sse transmit': 0, 'plain receive': 0 })
  for (const connection of app.realtime.connections) connection.close(4500, 'go')
  await until(() => [...app.realtime.connections].length === 0, 'all are gone')
  const after = await collect()
  t.strictSame(points(after.get(metricNames.active)), none)
  t.strictSame(points(after.get(metricNames.opened)), each)
  t.strictSame(Object.keys(points(after.get(metricNames.duration))).sort(), ['http_stream_json server', 'http_stream_protobuf server', 'sse_json server'])
})

t.test('posts that are refused are counted and logged, where there are posts', async (t) => {
  const collect = startSdk(t)
  const { logger, entries } = collectLog()
  const redis = await startRedis(t)
  const options = { fallback: true, maxConnections: 2, redis: redis.url, rateLimit: { connections: { max: 2, timeWindow: '1h' } } }
  const { url } = await startApp(t, options, { logger })
  const rejections = async () => points((await collect()).get(metricNames.rejected))
  t.strictSame(await rejections(), { ...noRejections, ...noPosts })
  const stream = await openStream(t, url)
  const { session, node } = (await stream.reply(1)).connect
  t.equal((await stream.post({})).status, 204)
  t.equal((await post(url, { session: 'invented', node, data: '{}' })).status, 404)
  await redis.freeze()
  t.equal((await post(url, { session, node: 'another', data: '{}' })).status, 503)
  t.equal((await post(url, { session, node: 'another', data: '{}' })).status, 429)
  const raw = await Promise.all([openRaw(t, url), openRaw(t, url)])
  for (const { socket } of raw) socket.write('POST /emulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{')
  await until(async () => (await post(url, {})).status === 503, 'as many bodies arrive as may')
  t.strictSame(await rejections(), { ...noRejections, post_unknown: 1, post_unanswered: 1, post_limit: 1, capacity: 1 })
  const logged = entries.filter(({ event }) => event === 'connection.rejected')
  t.strictSame(logged.map(({ error }) => error), ['post_unknown', 'post_unanswered', 'post_limit', 'capacity'])
  t.match(logged[0], { path: '/emulation', msg: /^Post to \/emulation rejected \(post_unknown\): There is no stream/ })
  t.strictSame(entries.filter(({ level }) => level >= 50).map(({ msg }) => msg), [], 'clients cause no errors')
})

t.test('upgrades that come after app.close() are counted', async (t) => {
  const collect = startSdk(t)
  const { app, url } = await startApp(t)
  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause()
  const closed = app.close()
  await until(() => [...app.realtime.connections].every(({ open }) => !open), 'the drain has begun')
  await rejected(`${url}/ws`)
  t.strictSame(points((await collect()).get(metricNames.rejected)), { ...noRejections, draining: 1 })
  await closed
})

t.test('telemetry false gives nothing', async (t) => {
  const collect = startSdk(t)
  const { app, url } = await startApp(t, { telemetry: false })
  const client = await connect(t, `${url}/ws`)
  client.socket.close()
  await client.closed
  await app.close()
  t.strictSame([...await collect()], [])
})

t.test('an app works without an SDK', async (t) => {
  metrics.disable()
  const { app, url } = await startApp(t)
  await connect(t, `${url}/ws`)
  await app.close()
  t.strictSame([...app.realtime.connections], [])
})
