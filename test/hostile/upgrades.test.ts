import fastifyWebsocket from '@fastify/websocket'
import Fastify from 'fastify'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import type { AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { BINARY, CLOSE, frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

// Clients that nobody has authenticated, at raw sockets. What they send is answered, and holds nothing afterwards.

const SDK_PATH = '/connection/websocket'

interface Parts {
  /** Routes of the app ahead of the plugin, and after it. */
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
}

async function start (t: Test, options: Options = {}, { before, after }: Parts = {}, fastifyOptions: FastifyServerOptions = {}) {
  const app = Fastify(fastifyOptions)
  t.teardown(() => app.close())
  await before?.(app)
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 }, ...options })
  await after?.(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const sockets = () => new Promise<number>((resolve, reject) => {
    app.server.getConnections((error, count) => error === null ? resolve(count) : reject(error))
  })
  return { app, url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`, sockets }
}

/** Sends the bytes and keeps its side of the connection open. Resolves with the answer when the server ends it. */
async function answerTo (t: Test, url: string, bytes: string): Promise<string> {
  const { socket, ended } = await openRaw(t, url)
  socket.write(bytes)
  return (await ended).toString()
}

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+) /.exec(answer)?.[1])

const withMethod = (method: string, path: string) => upgradeRequest(path).replace('GET', method)

t.test('an upgrade by HEAD or POST is answered on every route, and leaves no socket', async (t) => {
  const { app, url, sockets } = await start(t, { maxConnections: 5 }, {
    after: app => {
      app.get('/plain', () => 'plain')
      app.get('/mine', { websocket: true }, () => {})
      app.route({ method: 'GET', url: '/both', handler: () => 'both', wsHandler: () => {} })
    }
  })
  for (const path of ['/ws', SDK_PATH, '/health', '/ready', '/plain', '/mine', '/both', '/nowhere', '/%']) {
    for (const method of ['HEAD', 'POST', 'OPTIONS']) {
      const status = statusOf(await answerTo(t, url, withMethod(method, path)))
      t.ok([400, 404, 426].includes(status), `${method} ${path}: ${status}`)
    }
  }
  await Promise.all(Array.from({ length: 50 }, async () => await answerTo(t, url, withMethod('HEAD', '/ws'))))
  await until(async () => await sockets() === 0, 'no socket is left')
  t.equal((await app.inject({ method: 'HEAD', url: '/health' })).statusCode, 200, 'a probe may use HEAD')
})

t.test('upgrades to routes that are no WebSocket routes get 426 and hold no place, whenever the route was added', async (t) => {
  const { app, url, sockets } = await start(t, { maxConnections: 1 }, {
    before: async (app) => {
      app.get('/before', () => 'before')
      await app.register(async (scope) => { scope.get('/before-in-scope', () => 'before') })
    },
    after: async (app) => {
      app.get('/after', () => 'after')
      await app.register(async (scope) => {
        scope.get('/after-in-scope', () => 'after')
        scope.get('/mine', { websocket: true }, (socket) => { socket.send('mine') })
      })
    }
  })
  for (const path of ['/before', '/before-in-scope', '/after', '/after-in-scope', '/health', '/ready']) {
    const answer = await answerTo(t, url, upgradeRequest(path))
    t.equal(statusOf(answer), 426, path)
    t.match(answer, /FST_CRWS_NO_WEBSOCKET_ROUTE/)
  }
  t.equal(statusOf(await answerTo(t, url, upgradeRequest('/nowhere'))), 404)
  await until(async () => await sockets() === 0, 'no socket is left')
  const mine = await connect(t, `${url}/mine`)
  t.equal(await mine.next(), 'mine')
  const ours = await connect(t, `${url}/ws`)
  t.equal(ours.socket.readyState, ours.socket.OPEN)
  t.equal((await app.inject('/after')).body, 'after')
})

t.test("with the app's own @fastify/websocket probes take no upgrades either, and HEAD leaves no socket on our routes", async (t) => {
  const { url, sockets } = await start(t, {}, { before: app => app.register(fastifyWebsocket) })
  for (const path of ['/health', '/ready']) t.equal(statusOf(await answerTo(t, url, upgradeRequest(path))), 426)
  for (const path of ['/ws', SDK_PATH, '/health']) t.ok(statusOf(await answerTo(t, url, withMethod('HEAD', path))) >= 400)
  await until(async () => await sockets() === 0, 'no socket is left')
})

t.test('a message of fragments without end is refused at the 65th', async (t) => {
  const received: unknown[] = []
  const ends: unknown[] = []
  const { url } = await start(t, {
    onMessage: (_connection, data) => { received.push(data) },
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const first = frame(TEXT, 'x', { fin: false })
  const more = frame(0, 'x', { fin: false })
  for (const path of ['/ws', SDK_PATH]) {
    const { socket, ended, head } = await openRaw(t, url)
    socket.write(upgradeRequest(path))
    await head()
    socket.write(Buffer.concat([first, ...Array<Buffer>(1_000).fill(more)]))
    const bytes = await ended
    t.ok(bytes.includes(Buffer.from([0x88, 2, 1008 >> 8, 1008 & 255])), `${path} is closed with 1008`)
  }
  await until(() => ends.length === 1, 'onDisconnect; the SDK had not connected')
  t.match(ends, [{ code: 1008, cause: 'policy' }])
  const { socket, head } = await openRaw(t, url)
  socket.write(upgradeRequest('/ws'))
  await head()
  socket.write(Buffer.concat([first, ...Array<Buffer>(62).fill(more), frame(0, 'x')]))
  await until(() => received.length === 1, 'a message of 64 fragments')
  t.strictSame(received, ['x'.repeat(64)])
})

t.test('a larger maxPayload may come in more fragments, and in more reads', async (t) => {
  const received: number[] = []
  const { app, url } = await start(t, { maxPayload: 4_194_304, onMessage: (_connection, data) => { received.push(String(data).length) } })
  t.match(app.websocketServer.options, { maxFragments: 4_096, maxBufferedChunks: 8_192 })
  const { socket, head } = await openRaw(t, url)
  socket.write(upgradeRequest('/ws'))
  await head()
  const fragment = 'x'.repeat(4_096) // as centrifuge-go writes
  const rest = Array.from({ length: 99 }, (_, i) => frame(0, fragment, { fin: i === 98 }))
  socket.write(Buffer.concat([frame(TEXT, fragment, { fin: false }), ...rest]))
  await until(() => received.length === 1, 'a message of 100 fragments')
  t.strictSame(received, [409_600])
})

t.test('a frame that comes byte by byte is refused after 1,024 reads', async (t) => {
  const { app, url } = await start(t, { onMessage: () => {} })
  const { socket, head, received } = await openRaw(t, url)
  socket.setNoDelay(true)
  socket.write(upgradeRequest('/ws'))
  await head()
  const upgraded = received().length
  const bytes = frame(BINARY, Buffer.alloc(60_000))
  for (let sent = 0; sent < bytes.length && received().length === upgraded && !socket.destroyed; sent++) {
    socket.write(bytes.subarray(sent, sent + 1))
    await turn()
  }
  t.strictSame(received().subarray(upgraded), Buffer.from([0x88, 2, 1008 >> 8, 1008 & 255]), 'closed with 1008')
  await until(() => [...app.realtime.connections].length === 0, 'it is gone')
})

t.test('upgrades that wait for authenticate are counted, and a client that goes away frees its place at once', async (t) => {
  let asked = 0
  const { app, url, sockets } = await start(t, {
    maxConnections: 10,
    rateLimit: false,
    authenticate: ({ headers }) => headers['x-ok'] === undefined ? new Promise(() => { asked++ }) : {}
  })
  const ready = async () => (await app.inject('/ready')).statusCode === 200
  for (const leave of ['end', 'resetAndDestroy'] as const) {
    asked = 0
    const waiting = await Promise.all(Array.from({ length: 10 }, async () => await openRaw(t, url)))
    for (const { socket } of waiting) socket.write(upgradeRequest('/ws'))
    await until(() => asked === 10, 'all places are held')
    t.notOk(await ready(), 'other instances get the next clients')
    const refused = await answerTo(t, url, upgradeRequest('/ws'))
    t.match(refused, /^HTTP\/1\.1 503 /)
    t.match(refused, /FST_CRWS_CAPACITY/)
    for (const { socket } of waiting) socket[leave]()
    await until(ready, `there is room after ${leave}`)
    await until(async () => await sockets() === 0, 'no socket is left')
    t.equal(asked, 10)
  }
  const client = await connect(t, `${url}/ws`, { headers: { 'x-ok': '1' } })
  t.equal(client.socket.readyState, client.socket.OPEN)
})

t.test('what a client sends while it is authenticated is not lost', async (t) => {
  let settle: (() => void) | undefined
  const { url } = await start(t, {
    authenticate: async () => await new Promise(resolve => { settle = () => resolve({ user: 'ann' }) }),
    onMessage: (connection, data) => connection.send(`${connection.user}: ${data}`)
  })
  const early = await openRaw(t, url)
  early.socket.write(Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(TEXT, 'one')]))
  await until(() => settle !== undefined, 'authenticate was asked')
  await new Promise(resolve => early.socket.write(frame(TEXT, 'two'), resolve))
  settle?.()
  await until(() => early.received().includes('ann: two'), 'the answer')
  t.ok(early.received().includes('ann: one'))
})

t.test('a client that ends while a route outside of the scope answers its upgrade leaves no socket', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  let asked = 0
  app.get('/events', (_request, reply) => {
    asked++
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write('data: 1\n\n')
  })
  app.get('/slow', () => new Promise(() => { asked++ }))
  await app.register(async (scope) => { await scope.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 } }) })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const sockets = () => new Promise<number>(resolve => app.server.getConnections((_error, count) => resolve(count)))
  const waiting = await Promise.all(Array.from({ length: 20 }, async () => await openRaw(t, url)))
  for (const [i, { socket }] of waiting.entries()) socket.write(upgradeRequest(i % 2 === 0 ? '/events' : '/slow'))
  await until(() => asked === 20, 'all are under way')
  for (const { socket } of waiting) socket.end()
  await until(async () => await sockets() === 0, 'no socket is left')
})

t.test('an upgrade whose client ends right after its messages is a connection that ends as usual', async (t) => {
  const received: unknown[] = []
  const ends: unknown[] = []
  const { url, sockets } = await start(t, {
    onMessage: (_connection, data) => { received.push(data) },
    onDisconnect: (_connection, end) => { ends.push(end) }
  }, { after: app => { app.get('/mine', { websocket: true }, socket => { socket.on('message', (data: Buffer) => { socket.send(`${data}!`) }) }) } })
  const bye = frame(CLOSE, Buffer.concat([Buffer.from([4_000 >> 8, 4_000 & 255]), Buffer.from('bye')]))
  const { socket, ended } = await openRaw(t, url)
  socket.end(Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(TEXT, 'one'), bye]))
  t.ok((await ended).includes('bye'), 'its goodbye is answered')
  await until(() => ends.length === 1, 'onDisconnect')
  t.strictSame([received, ends], [['one'], [{ code: 4_000, reason: 'bye', cause: 'client' }]])
  const mine = await openRaw(t, url)
  mine.socket.end(Buffer.concat([Buffer.from(upgradeRequest('/mine')), frame(TEXT, 'two'), bye]))
  t.match((await mine.ended).toString('latin1'), /two!.*bye/s, "so it is with the app's own routes")
  await until(async () => await sockets() === 0, 'no socket is left')
})

t.test('a client that has said goodbye is cut although it does not end its side', async (t) => {
  const { app, url, sockets } = await start(t)
  const { hostname: host, port } = new URL(url)
  const socket = connectTcp({ host, port: Number(port), allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {}).resume() // a reset is fine
  socket.write(Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(CLOSE, Buffer.from([1000 >> 8, 1000 & 255]))]))
  await once(socket, 'end')
  await until(async () => await sockets() === 0, 'the socket is gone')
  await until(() => [...app.realtime.connections].length === 0, 'its place is free')
})

t.test('a reset while hooks run does not end the process, with a @fastify/websocket before 11.3.3 neither', async (t) => {
  let settle = () => {}
  let asked = 0
  const { url, sockets } = await start(t, {
    authenticate: async () => {
      asked++
      await new Promise<void>(resolve => { settle = resolve })
      return {}
    }
  }, {
    before: async (app) => {
      await app.register(fastifyWebsocket)
      // So do those versions: between 'upgrade' and the handshake nobody listens for errors.
      app.addHook('onRequest', (request, _reply, done) => {
        request.raw.socket.removeAllListeners('error')
        done()
      })
    }
  })
  const { socket } = await openRaw(t, url)
  socket.write(upgradeRequest('/ws'))
  await until(() => asked === 1, 'authenticate was asked')
  socket.resetAndDestroy()
  await until(async () => await sockets() === 0, 'the socket is gone')
  settle()
  const other = await openRaw(t, url)
  other.socket.write(upgradeRequest('/ws'))
  await until(() => asked === 2, 'the process lives')
  settle()
  t.match(await other.head(), / 101 /)
})
