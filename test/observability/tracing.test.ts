import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AlwaysOffSampler } from '@opentelemetry/sdk-trace-node'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node'
import Fastify from 'fastify'
import { setImmediate as endOfTurn } from 'node:timers/promises'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { openRaw, upgradeRequest } from '../helpers/raw-socket.ts'
import { startTracer } from '../helpers/tracer.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const parentId = 'b7ad6b7169203331'
const headers = { traceparent: `00-${traceId}-${parentId}-01` }

const parentOf = (span: ReadableSpan | undefined) => span?.parentSpanContext?.spanId
const channels: Options['channels'] = { chat: {}, kept: { history: { size: 10, ttl: '1m' } } }

t.test('an upgrade is a span of the trace that its request belongs to', async t => {
  const spans = startTracer(t)
  let onConnectSpan: unknown = 'not called'
  const { app, url } = await startApp(t, {
    authenticate: async () => {
      await endOfTurn()
      trace.getTracer('host').startSpan('look up the user').end()
      return { user: 'ann' }
    },
    onConnect: () => { onConnectSpan = trace.getSpan(context.active()) }
  })
  const client = await connect(t, `${url}/ws?token=secret`, { headers })
  const [upgrade] = await spans.named('GET /ws')
  t.equal(upgrade!.kind, SpanKind.SERVER)
  t.equal(upgrade!.spanContext().traceId, traceId)
  t.equal(parentOf(upgrade), parentId)
  t.strictSame(upgrade!.attributes, {
    'http.request.method': 'GET', 'url.path': '/ws', 'http.route': '/ws', 'network.protocol.name': 'websocket', 'http.response.status_code': 101
  })
  t.equal(upgrade!.status.code, SpanStatusCode.UNSET)
  t.equal(parentOf((await spans.named('look up the user'))[0]), upgrade!.spanContext().spanId, 'what authenticate does belongs to it')
  t.equal(onConnectSpan, undefined, 'what the connection does is no part of it')
  client.socket.close()
  await client.closed
  t.equal(spans.ended.length, 2)

  const injected = await app.injectWS('/ws')
  await spans.named('GET /ws', 2)
  injected.terminate()
})

t.test('the span of a rejected upgrade has the reason', async t => {
  const spans = startTracer(t)
  const { url } = await startApp(t, {
    maxConnections: 1,
    authenticate: async ({ headers }) => {
      if (headers['x-bad'] !== undefined) throw new Error('no')
      return {}
    }
  })
  const last = async (count: number) => {
    const { attributes, status } = (await spans.named('GET /ws', count))[count - 1]!
    return [attributes['http.response.status_code'], attributes['error.type'], status.code === SpanStatusCode.ERROR]
  }
  t.equal((await fetch(`${url.replace('ws', 'http')}/ws`)).status, 426)
  await rejected(`${url}/ws`, { headers: { origin: 'https://evil.example' } })
  t.strictSame(await last(1), [403, 'origin', false])
  await rejected(`${url}/ws`, { headers: { 'x-bad': '1' } })
  t.strictSame(await last(2), [401, 'auth', false])

  await connect(t, `${url}/ws`)
  t.strictSame(await last(3), [101, undefined, false])
  await rejected(`${url}/ws`)
  t.strictSame(await last(4), [503, 'capacity', true])
  const limited = await startApp(t, { rateLimit: { connections: { max: 1, timeWindow: '1m' } } })
  await connect(t, `${limited.url}/ws`)
  await rejected(`${limited.url}/ws`)
  t.strictSame(await last(6), [429, 'rate_limit', false])
})

t.test('an upgrade that a hook of the app answers, or that arrives after app.close(), has a span', async t => {
  const spans = startTracer(t)
  const app = Fastify()
  t.teardown(() => app.close())
  const span = trace.getTracer('host').startSpan('request')
  // As an instrumentation of Fastify does it: there is a current span already.
  app.addHook('onRequest', (_request, _reply, done) => context.with(trace.setSpan(context.active(), span), done))
  app.addHook('preHandler', async ({ headers }, reply) => headers['x-teapot'] === undefined ? undefined : reply.code(418).send('no'))
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 } })
  const url = (await app.listen({ port: 0, host: '127.0.0.1' })).replace('http', 'ws')
  await rejected(`${url}/ws`, { headers: { ...headers, 'x-teapot': '1' } })
  const [refused] = await spans.named('GET /ws')
  t.match(refused!.attributes, { 'http.response.status_code': 418, 'error.type': '418' })
  t.equal(parentOf(refused), span.spanContext().spanId)

  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause()
  const closed = app.close()
  await until(() => [...app.realtime.connections].every(({ open }) => !open), 'the drain has begun')
  await rejected(`${url}/ws?late`, { headers })
  const late = (await spans.named('GET /ws', 3)).at(-1)!
  t.match(late.attributes, { 'http.response.status_code': 503, 'error.type': 'draining', 'url.path': '/ws' })
  t.equal(late.spanContext().traceId, traceId)
  await closed
})

t.test('an upgrade that `ws` itself rejects has a span', async t => {
  const spans = startTracer(t)
  const { url } = await startApp(t)
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws').replace(/^Sec-WebSocket-Key: .*$/im, 'Sec-WebSocket-Key: short'))
  t.match(await raw.head(), /^HTTP\/1.1 400/)
  const [span] = await spans.named('GET /ws')
  t.match(span!.attributes, { 'error.type': 'aborted', 'http.response.status_code': undefined })
})

t.test('a publication has a span where it is sent, and one where it is delivered', async t => {
  const spans = startTracer(t)
  const { app, url } = await startApp(t, { channels, onConnect: async connection => { await connection.subscribe('kept:1') } })
  const client = await connect(t, `${url}/ws`)
  await until(() => [...app.realtime.connections][0]!.channels.has('kept:1'), 'it is subscribed')
  const host = trace.getTracer('host').startSpan('order paid')
  await context.with(trace.setSpan(context.active(), host), () => app.realtime.publish('kept:1', 'hello', { tags: { a: 'b' } }))
  t.equal(await client.next(), 'hello')
  const [process] = await spans.named('process kept:{channel}')
  const [send] = await spans.named('send kept:{channel}')
  const common = { 'messaging.system': 'memory', 'messaging.destination.name': 'kept:1', 'messaging.destination.template': 'kept:{channel}', 'messaging.message.body.size': 5 }
  t.strictSame(send!.attributes, { ...common, 'messaging.operation.name': 'send', 'messaging.operation.type': 'send' })
  t.strictSame(process!.attributes, { ...common, 'messaging.operation.name': 'process', 'messaging.operation.type': 'process' })
  t.strictSame([send!.kind, process!.kind], [SpanKind.PRODUCER, SpanKind.CONSUMER])
  t.equal(parentOf(send), host.spanContext().spanId)
  t.equal(parentOf(process), send!.spanContext().spanId)

  await app.realtime.publish('somewhere:else', 'x')
  const [unnamed] = await spans.named('send')
  t.equal(unnamed!.attributes['messaging.destination.name'], 'somewhere:else', 'a namespace that nobody has named is in no name')
  t.notOk(unnamed!.attributes['messaging.destination.template'])

  const before = spans.ended.length
  await app.realtime.subscribe('nobody', 'kept:1')
  t.equal(spans.ended.length, before, 'commands between instances are none')
})

t.test('a trace crosses instances and leaves the history as it was', async t => {
  const redis = await startRedis(t)
  const spans = startTracer(t)
  const options: Options = {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    channels: { ...channels, '': {} },
    onConnect: async connection => { await Promise.all(['chat:1', 'kept:1', 'plain'].map(channel => connection.subscribe(channel))) }
  }
  const [a, b, silent] = await Promise.all([startApp(t, options), startApp(t, options), startApp(t, { ...options, telemetry: false })])
  const clients = await Promise.all([a, b, silent].map(({ url }) => connect(t, `${url}/ws`)))
  await until(() => [a, b, silent].every(({ app }) => [...app.realtime.connections][0]?.channels.size === 3), 'all are subscribed')

  for (const channel of ['chat:1', 'kept:1', 'plain']) {
    const template = channel.replace('1', '{channel}').replace('plain', '{channel}')
    await a.app.realtime.publish(channel, { n: 1 })
    t.strictSame(await Promise.all(clients.map(client => client.next())), Array(3).fill('{"n":1}'))
    const [send] = await spans.named(`send ${template}`)
    const processed = await spans.named(`process ${template}`, 2)
    t.strictSame(processed.map(parentOf), Array(2).fill(send!.spanContext().spanId), channel)
    t.ok(processed.every(span => span.spanContext().traceId === send!.spanContext().traceId && span.attributes['messaging.system'] === 'redis'))
  }
  const { publications: [kept] } = await b.app.realtime.history('kept:1')
  t.strictSame(Object.keys(kept!), ['data', 'offset', 'epoch', 'time'])

  t.comment('what another instance may send')
  const before = spans.ended.length
  const foreign = async (extra: string) => command(redis.port, ['PUBLISH', `${options.keyPrefix}:pub:{chat:1}`, `0  t ${Date.now()} other 0${extra}\nhi`])
  for (const extra of ['', ' {"tags":{},"trace":"nonsense"}', ` {"tags":{},"trace":"00-${traceId}-${parentId}-00"}`, ` {"tags":{},"trace":"00-${'0'.repeat(32)}-${parentId}-01"}`]) {
    await foreign(extra)
    t.strictSame(await Promise.all(clients.map(client => client.next())), Array(3).fill('hi'))
  }
  await foreign(` {"tags":{},"trace":"00-${traceId}-${parentId}-01"}`)
  const [last] = (await spans.named('process chat:{channel}', 4)).slice(-1)
  t.equal(parentOf(last), parentId)
  t.equal(spans.ended.length, before + 2)

  await silent.app.realtime.publish('chat:1', 'untraced')
  await until(() => clients.every(({ messages }) => messages.includes('untraced')), 'it has arrived')
  t.equal(spans.ended.length, before + 2, 'telemetry: false')

  await redis.kill()
  const { code } = await a.app.realtime.publish('chat:1', 'x').catch(error => error)
  t.match(code, /^FST_CRWS_REDIS_/)
  const failed = (await spans.named('send chat:{channel}', 2)).at(-1)!
  t.equal(failed.attributes['error.type'], code)
  t.equal(failed.status.code, SpanStatusCode.ERROR)
})

t.test('a publication that is not sampled carries no trace', async t => {
  const redis = await startRedis(t)
  const options: Options = { redis: redis.url, keyPrefix: randomPrefix(), channels }
  const stored = () => command(redis.port, ['XRANGE', `${options.keyPrefix}:stream:{kept:1}`, '-', '+'])
  const { app, url } = await startApp(t, options)
  await app.realtime.publish('kept:1', 'no tracer')
  t.notMatch(await stored(), /trace"/)
  const spans = startTracer(t, new AlwaysOffSampler())
  await app.realtime.publish('kept:1', 'not sampled')
  await connect(t, `${url}/ws`)
  t.match(await stored(), /not sampled/)
  t.notMatch(await stored(), /"trace"/)
  t.strictSame(spans.ended, [])
})
