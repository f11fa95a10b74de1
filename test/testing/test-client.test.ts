import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import type { FastifyServerOptions } from 'fastify'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket, { type Options } from '../../index.ts'
import { testClient } from '../../testing.ts'
import { until } from '../helpers/until.ts'

async function build (t: Test, options: Options = {}, fastifyOptions: FastifyServerOptions = {}) {
  const app = Fastify(fastifyOptions)
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false }, ...options })
  return app
}

t.test('a client misses no message, from the first on', async (t) => {
  const app = await build(t, {
    onConnect (connection) {
      connection.send('at once')
      connection.send({ n: 1 })
      connection.send(Buffer.from([1, 2]))
    },
    onMessage (connection, data) { connection.send(data) }
  })
  const client = await testClient(app)
  t.equal(await client.next(), 'at once')
  t.strictSame(await client.nextJson(), { n: 1 })
  t.strictSame(await client.next(), Buffer.from([1, 2]))
  client.send('text')
  client.send({ a: ['ž'] })
  client.send(Buffer.from([3]))
  t.strictSame(await Promise.all([client.next(), client.next(), client.next()]), ['text', '{"a":["ž"]}', Buffer.from([3])])
  t.equal(client.messages.length, 6)
})

t.test('path, query and headers arrive, and the address is that of this machine', async (t) => {
  const app = await build(t, {
    path: '/rooms/:room',
    authenticate: ({ params, query, headers, ip }) => ({ meta: { params, query, cookie: headers.cookie, ip } }),
    onConnect: connection => { connection.send(connection.meta) }
  })
  const headers = { cookie: 'session=1' }
  const client = await testClient(app, { path: '/rooms/7', query: { name: 'a&b' }, headers })
  t.strictSame(await client.nextJson(), { params: { room: '7' }, query: { name: 'a&b' }, cookie: 'session=1', ip: '127.0.0.1' })
  const other = await testClient(app, { path: '/rooms/7?x=1', query: { y: '2' }, headers })
  t.match(await other.nextJson(), { query: { x: '1', y: '2' } })
})

t.test('both sides can close, with code and reason, without a wait', async (t) => {
  const ends: unknown[] = []
  const app = await build(t, {
    onConnect: connection => { connection.send('hello') },
    onMessage: connection => connection.close(4000, 'bye'),
    onDisconnect: (_connection, { code, reason, cause }) => { ends.push({ code, reason, cause }) }
  })
  const closedByServer = await testClient(app)
  await closedByServer.next()
  closedByServer.send('close')
  t.strictSame(await closedByServer.closed, { code: 4000, reason: 'bye' })
  const closedByClient = await testClient(app)
  t.strictSame(await closedByClient.close(4001, 'done'), { code: 4001, reason: 'done' })
  {
    await using client = await testClient(app)
    await client.next()
  }
  t.strictSame(ends, [
    { code: 4000, reason: 'bye', cause: 'server' }, { code: 4001, reason: 'done', cause: 'client' }, { code: 1000, reason: '', cause: 'client' }
  ])
})

t.test('an app that closes drains its test clients', async (t) => {
  const app = await build(t)
  const client = await testClient(app)
  const closing = app.close()
  t.equal(await client.next(), '{"type":"shutdown","message":"shutdown","reconnect":true}')
  t.strictSame(await client.closed, { code: 1001, reason: 'shutdown' })
  await closing
  await t.rejects(testClient(app), { code: 'FST_CRWS_TEST_REFUSED', statusCode: 503, body: { code: 'FST_CRWS_DRAINING' } })
})

t.test('a refused upgrade tells its status, headers and body', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  await testClient(app)
  await t.rejects(testClient(app), {
    code: 'FST_CRWS_TEST_REFUSED',
    statusCode: 503,
    message: /^The upgrade of \/ws was refused with 503: \{.*FST_CRWS_CAPACITY/,
    headers: { 'retry-after': /\d/ },
    body: { code: 'FST_CRWS_CAPACITY', statusCode: 503 }
  })
  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.addHook('onRequest', async (_request, reply) => reply.code(418).send('tea'))
  await bare.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false } })
  await t.rejects(testClient(bare), { code: 'FST_CRWS_TEST_REFUSED', statusCode: 418, body: 'tea' })
})

t.test('a misspelt option is named', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(testClient(app, { pth: '/ws' } as object), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /did you mean `path`/ })
})

t.test('an app that does not start says why', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close().catch(() => {}))
  app.register(async () => { throw new Error('no database') })
  await t.rejects(testClient(app), { message: 'no database' })
})

t.test('next rejects when the socket closes first, and says what came', async (t) => {
  const app = await build(t, { onMessage: (connection, data) => data === 'bye' ? connection.close(4000, 'bye') : connection.send(data) })
  const client = await testClient(app)
  const waiting = client.next()
  client.send('bye')
  await t.rejects(waiting, { code: 'FST_CRWS_TEST_CLOSED', message: 'The socket was closed with 4000 "bye" before another message came. No message came before' })
  const other = await testClient(app)
  for (let i = 1; i <= 7; i++) other.send(`message ${i}`)
  other.send('bye')
  for (let i = 1; i <= 7; i++) t.equal(await other.next(), `message ${i}`)
  await t.rejects(other.next(), { message: /7 came before; the last of them: \[ 'message 3', .* 'message 7' \]$/ })
})

t.test('next rejects after its time limit, and the message that comes later is not lost', async (t) => {
  const app = await build(t, { onMessage: (connection, data) => { connection.send(data) } })
  const client = await testClient(app)
  await t.rejects(client.next(20), { code: 'FST_CRWS_TEST_NO_MESSAGE', message: 'No message came within 20 ms. No message came before' })
  client.send('later')
  t.equal(await client.next(), 'later')
  await t.rejects(client.next(1), { message: "No message came within 1 ms. Came before: [ 'later' ]" })
  client.send('no JSON')
  await t.rejects(client.nextJson(), { code: 'FST_CRWS_TEST_NOT_JSON', message: "The next message is not JSON: 'no JSON'. Use next() for it" })
})

t.test('calls of next that wait together get one message each, also if one of them gives up', async (t) => {
  const app = await build(t, { onMessage: (connection, data) => { connection.send(data) } })
  const client = await testClient(app)
  const [gaveUp, second, third] = [client.next(20), client.next(), client.next()]
  await t.rejects(gaveUp, { code: 'FST_CRWS_TEST_NO_MESSAGE' })
  client.send('one')
  t.equal(await second, 'one')
  client.send('two')
  client.send('three')
  t.strictSame(await Promise.all([third, client.next()]), ['two', 'three'])
  const [last, none] = [client.next(), client.next()]
  client.send('last')
  t.equal(await last, 'last')
  await Promise.all([t.rejects(none, { code: 'FST_CRWS_TEST_CLOSED' }), client.close()])
})

t.test('what a client is sent is bounded by backpressure, and all of it arrives', async (t) => {
  const app = await build(t, {
    maxBufferedBytes: 64 * 1_048_576,
    onMessage (connection) { for (let i = 0; i < 200; i++) connection.send(`${i} `.padEnd(100_000)) }
  })
  const client = await testClient(app)
  client.send('all')
  for (let i = 0; i < 200; i++) t.equal((await client.next(20_000)).length, 100_000)
  t.equal(app.websocketServer.clients.size, 0, 'they are connections of the plugin')
})

t.test('a server that reads nothing for a while gets everything in the end', async (t) => {
  let open = () => {}
  const gate = new Promise<void>(resolve => { open = resolve })
  const sizes: number[] = []
  const app = await build(t, {
    onMessage: async (connection, data) => {
      await gate
      sizes.push((data as string).length)
      if (sizes.length === 102) connection.send('all')
    }
  })
  const client = await testClient(app)
  for (let i = 0; i < 100; i++) client.send('x'.repeat(50_000))
  const [connection] = app.realtime.connections as unknown as Iterable<{ paused: boolean }>
  await until(() => connection?.paused, 'the server has stopped reading')
  for (let i = 0; i < 2; i++) {
    client.send('x'.repeat(50_000))
    await setImmediate()
  }
  open()
  t.equal(await client.next(20_000), 'all')
  t.strictSame(sizes, Array(102).fill(50_000))
})

t.test('a server that cuts the connection leaves what it sent before, and 1006', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(websocket)
  app.get('/cut', { websocket: true }, socket => {
    socket.send('last words', () => socket.terminate())
  })
  await app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false } })
  const client = await testClient(app, { path: '/cut' })
  t.equal(await client.next(), 'last words')
  t.strictSame(await client.closed, { code: 1006, reason: '' })
})

t.test('an app with TLS has test clients too', async (t) => {
  const app = Fastify({ https: {} })
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false }, onConnect: connection => { connection.send('hello') } })
  t.equal(await (await testClient(app)).next(), 'hello')
})

t.test('a test client asks, and answers what it is asked', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, {
    redis: false,
    shutdown: { signals: false },
    plain: { envelope: true },
    channels: { room: { subscribe: true, history: { size: 10, ttl: '1m' } } },
    methods: {
      add: { handler: (_connection, data) => (data as number[]).reduce((a, b) => a + b) },
      confirmed: { handler: connection => connection.request('confirm', 5).catch(({ reply }) => reply) },
      broken: { handler: connection => { connection.send('{broken') } },
      slow: { concurrent: true, handler: () => new Promise(() => {}) },
      end: { handler: connection => connection.close(3_000, 'over') }
    }
  })
  await using client = await testClient(app)
  t.match(await client.ask({ subscribe: 'room:1' }), { offset: 0, epoch: String })
  t.equal(await client.ask({ method: 'add', data: [1, 2] }), 3)
  await t.rejects(client.ask({ subscribe: 'closed:1' }), { code: 'FST_CRWS_TEST_REPLY', reply: { code: 102, message: 'unknown channel' } })
  client.answer('confirm', data => data === 5)
  t.equal(await client.ask({ method: 'confirmed' }), true)
  client.answer('confirm', () => { throw new Error('no') })
  t.strictSame(await client.ask({ method: 'confirmed' }), { code: 1, message: 'no' })
  await app.realtime.publish('room:1', 'news')
  t.match(await client.nextJson(), { channel: 'room:1', offset: 1, data: 'news' }, 'next skips answers and requests')
  t.ok(client.messages.length > 5)
  await client.ask({ method: 'broken' })
  t.equal(await client.next(), '{broken')
  await t.rejects(client.ask({ method: 'slow' }, 10), { code: 'FST_CRWS_TEST_NO_MESSAGE' })
  client.send({ method: 'end' })
  const late = client.ask({ method: 'add', data: [1] })
  await t.rejects(late, { code: 'FST_CRWS_TEST_CLOSED' })
  await t.rejects(client.ask({ method: 'add', data: [1] }), { code: 'FST_CRWS_TEST_CLOSED' }, 'after the end')
})
