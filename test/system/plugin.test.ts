import fastifyRateLimit from '@fastify/rate-limit'
import fastifyWebsocket from '@fastify/websocket'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Connection, End, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { CLOSE, frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

const quiet: Options = { shutdown: { signals: false, timeout: 2_000 } }

async function listen (t: Test, app: FastifyInstance): Promise<string> {
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  return `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

/** A client may call any method of its connection, so that a test is written from the client's side. */
const onMessage: Options['onMessage'] = async (connection, data) => {
  const { id, call, args } = JSON.parse(String(data))
  try {
    connection.send({ id, result: await (connection as any)[call](...args) ?? null })
  } catch (error) {
    connection.send({ id, error: (error as { code: string }).code })
  }
}

async function call (client: Awaited<ReturnType<typeof connect>>, name: string, ...args: unknown[]): Promise<unknown> {
  const id = Math.random()
  client.send(JSON.stringify({ id, call: name, args }))
  return until(() => client.messages.map(message => parse(message)).find(message => message?.id === id), `answer to ${name}`)
}

function parse (message: string | Buffer): any {
  try {
    return JSON.parse(String(message))
  } catch {
    return undefined
  }
}

t.test('a bare register works', async (t) => {
  const app = Fastify()
  await app.register(cloudRunWebSocket)
  const url = await listen(t, app)
  const client = await connect(t, `${url}/ws`)
  t.equal([...app.realtime.connections].length, 1)
  t.match(await app.inject('/health').then(response => response.json()), { status: 'ok', connections: 1 })
  client.send('hello')
  t.strictSame(await client.closed, { code: 1003, reason: 'this server does not take messages' }, 'nobody takes messages')
})

t.test('text stays text and binary stays binary', async (t) => {
  const { url } = await startApp(t, { onMessage: (connection, data) => connection.send(data) })
  const client = await connect(t, `${url}/ws`)
  client.send('grüße €')
  t.equal(await client.next(), 'grüße €')
  client.send(Buffer.from([0, 255, 1]))
  t.strictSame(await client.next(), Buffer.from([0, 255, 1]))
  client.send('')
  t.equal(await client.next(), '')
  client.send(Buffer.alloc(0))
  t.strictSame(await client.next(), Buffer.alloc(0))
})

t.test('the handlers see the connection from its beginning to its end', async (t) => {
  const seen: unknown[] = []
  const { app, url } = await startApp(t, {
    authenticate: async (request) => ({ user: request.headers['x-user'] as string, info: { name: 'Ann' }, meta: { secret: 1 } }),
    onConnect: (connection, request) => { seen.push(['connect', connection.user, connection.open, request.url]) },
    onMessage: (connection, data) => { seen.push(['message', connection.user, data]) },
    onDisconnect: (connection, end) => { seen.push(['disconnect', connection.user, connection.open, end]) }
  })
  const client = await connect(t, `${url}/ws?room=1`, { headers: { 'x-user': '42' } })
  const [connection] = app.realtime.connections as Iterable<Connection>
  t.match(connection, { user: '42', info: { name: 'Ann' }, meta: { secret: 1 }, protocol: 'plain', open: true })
  t.match(connection!.id, /^[0-9a-f-]{36}$/)
  t.ok(Math.abs(Date.now() - connection!.connectedAt) < 60_000)
  t.strictSame([...connection!.channels], [])
  client.send('hi')
  client.socket.close(4000, 'bye')
  await until(() => seen.length === 3, 'all handlers were called')
  t.strictSame(seen, [
    ['connect', '42', true, '/ws?room=1'],
    ['message', '42', 'hi'],
    ['disconnect', '42', false, { code: 4000, reason: 'bye', cause: 'client' }]
  ])
  t.strictSame([...app.realtime.connections], [])
})

t.test('messages are handled in order, one at a time, after onConnect and before onDisconnect', async (t) => {
  const log: string[] = []
  const pauses = [30, 0, 10, 5, 0]
  const { url } = await startApp(t, {
    onConnect: async () => {
      await wait(30)
      log.push('connected')
    },
    onMessage: async (_connection, data) => {
      log.push(`begin ${data}`)
      await wait(pauses[Number(data)]!)
      log.push(`end ${data}`)
    },
    onDisconnect: async () => { log.push('disconnected') }
  })
  const client = await connect(t, `${url}/ws`)
  for (let i = 0; i < pauses.length; i++) client.send(String(i))
  client.socket.close()
  await until(() => log.at(-1) === 'disconnected', 'onDisconnect')
  t.strictSame(log, ['connected', ...pauses.flatMap((_, i) => [`begin ${i}`, `end ${i}`]), 'disconnected'])
})

t.test('messages of different connections do not wait for each other', async (t) => {
  let release = () => {}
  const held = new Promise<void>(resolve => { release = resolve })
  const { url } = await startApp(t, {
    onMessage: async (connection, data) => {
      if (data === 'slow') await held
      connection.send(data)
    }
  })
  const [slow, fast] = await Promise.all([connect(t, `${url}/ws`), connect(t, `${url}/ws`)])
  slow.send('slow')
  fast.send('fast')
  t.equal(await fast.next(), 'fast')
  t.strictSame(slow.messages, [])
  release()
  t.equal(await slow.next(), 'slow')
})

t.test('a first message in the same packet as the upgrade is not lost, however slow the host is', async (t) => {
  const log: unknown[] = []
  const { url } = await startApp(t, {
    authenticate: async () => {
      await wait(50)
      return { user: 'ann' }
    },
    onConnect: async () => {
      await wait(50)
      log.push('connected')
    },
    onMessage: (_connection, data) => { log.push(data) }
  })
  const raw = await openRaw(t, url)
  raw.socket.write(Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(TEXT, 'first'), frame(TEXT, 'second')]))
  t.match(await raw.head(), /^HTTP\/1\.1 101 /)
  await until(() => log.length === 3, 'both messages')
  t.strictSame(log, ['connected', 'first', 'second'])
})

t.test('send takes strings, JSON and bytes, and refuses what can not be sent', async (t) => {
  const codes: string[] = []
  const { url } = await startApp(t, {
    onConnect: (connection) => {
      for (const data of ['text', { a: [1, null] }, 5, null, true, Buffer.from('bytes'), new Uint8Array([1, 2])]) t.equal(connection.send(data), true)
      const cyclic: Record<string, unknown> = {}
      cyclic.self = cyclic
      for (const data of [undefined, cyclic, () => {}, 1n, Symbol('x')]) {
        try {
          connection.send(data)
        } catch (error) {
          codes.push((error as { code: string }).code)
        }
      }
      connection.send('end')
    }
  })
  const client = await connect(t, `${url}/ws`)
  await until(() => client.messages.at(-1) === 'end', 'all messages')
  t.strictSame(client.messages, ['text', '{"a":[1,null]}', '5', 'null', 'true', Buffer.from('bytes'), Buffer.from([1, 2]), 'end'])
  t.strictSame(codes, Array(5).fill('FST_CRWS_INVALID_DATA'))
})

t.test('a publication reaches everybody in the channel, and nobody else', async (t) => {
  const { app, url } = await startApp(t, { onMessage })
  const [a, b, c] = await Promise.all([0, 1, 2].map(() => connect(t, `${url}/ws`))) as [any, any, any]
  await call(a, 'subscribe', 'news')
  await call(b, 'subscribe', 'news')
  await call(c, 'subscribe', 'other')
  t.strictSame(await app.realtime.publish('news', { n: 1 }), {}, 'without history there is no position')
  await app.realtime.publish('news', 'text')
  await app.realtime.publish('news', Buffer.from('bytes'))
  await app.realtime.broadcast(['news', 'other'], 'all')
  for (const client of [a, b]) {
    await until(() => client.messages.at(-1) === 'all', 'the last publication')
    t.strictSame(client.messages.slice(1), ['{"n":1}', 'text', Buffer.from('bytes'), 'all'])
  }
  await until(() => c.messages.length === 2, 'the broadcast')
  t.equal(c.messages.at(-1), 'all')

  await call(b, 'unsubscribe', 'news')
  await app.realtime.publish('news', 'last')
  await until(() => a.messages.at(-1) === 'last', 'the last publication')
  t.notOk(b.messages.includes('last'))
  t.match(await call(b, 'unsubscribe', 'news'), { result: null }, 'once more does nothing')
})

t.test('a channel with history gives positions, and what was missed', async (t) => {
  const { app, url } = await startApp(t, { onMessage, channels: { chat: { history: { size: 3, ttl: '1m' } } } })
  const first = await app.realtime.publish('chat:1', 'one', { tags: { lang: 'en' } })
  t.match(first, { offset: 1, epoch: /.+/ })
  const epoch = first.epoch!
  t.strictSame(await app.realtime.publish('chat:1', { two: 2 }, { idempotencyKey: 'k' }), { offset: 2, epoch })
  t.strictSame(await app.realtime.publish('chat:1', { two: 2 }, { idempotencyKey: 'k' }), { offset: 2, epoch }, 'the same key publishes nothing')
  t.strictSame(await app.realtime.publish('chat:1', 'unkept', { history: false }), {})

  const history = await app.realtime.history('chat:1')
  t.match(history, { offset: 2, epoch, publications: [{ data: 'one', offset: 1, epoch, tags: { lang: 'en' } }, { data: { two: 2 }, offset: 2 }] })
  t.equal(history.publications.length, 2)
  t.ok(Math.abs(history.publications[0]!.time - Date.now()) < 60_000)
  t.match(await app.realtime.history('chat:1', { limit: 1, reverse: true }), { publications: [{ offset: 2 }] })
  t.match(await app.realtime.history('chat:1', { limit: 0 }), { publications: [], offset: 2, epoch })
  t.match(await app.realtime.history('chat:1', { since: { offset: 1, epoch } }), { publications: [{ offset: 2 }] })
  await t.rejects(app.realtime.history('chat:1', { since: { offset: 1, epoch: 'other' } }), { code: 'FST_CRWS_UNRECOVERABLE_POSITION' })
  for (const limit of [-1, 1.5, Number.NaN]) await t.rejects(app.realtime.history('chat:1', { limit }), { code: 'FST_CRWS_INVALID_ARGUMENT' })

  const client = await connect(t, `${url}/ws`)
  t.match(await call(client, 'subscribe', 'chat:1', { since: { offset: 0, epoch } }), { result: { recovered: true, offset: 2, epoch } })
  t.strictSame(client.messages.slice(0, 2), ['one', '{"two":2}'], 'what was missed comes before the result')
  await app.realtime.publish('chat:1', 'three')
  await until(() => client.messages.at(-1) === 'three', 'the live publication')
  t.equal(client.messages.length, 4)

  for (const data of ['four', 'five']) await app.realtime.publish('chat:1', data)
  for (const since of [{ offset: 1, epoch }, { offset: 1, epoch: 'other' }, { offset: 99, epoch }]) {
    const late = await connect(t, `${url}/ws`)
    t.match(await call(late, 'subscribe', 'chat:1', { since }), { result: { recovered: false, offset: 5, epoch } }, `not from ${JSON.stringify(since)}`)
    t.equal(late.messages.length, 1, 'and then nothing but what comes from now on')
  }
  t.match(await call(client, 'subscribe', 'plain:1', { since: { offset: 1, epoch } }), { error: 'FST_CRWS_INVALID_ARGUMENT' }, 'no position without history')
})

t.test('presence shows connections and users', async (t) => {
  const { app, url } = await startApp(t, {
    onMessage,
    authenticate: ({ headers }) => ({ user: headers['x-user'] as string, ...(headers['x-user'] === 'ann' && { info: { name: 'Ann' } }) }),
    channels: { room: { presence: true } }
  })
  const open = (user: string) => connect(t, `${url}/ws`, { headers: { 'x-user': user } })
  const [ann1, ann2, bob] = await Promise.all(['ann', 'ann', 'bob'].map(open)) as [any, any, any]
  for (const client of [ann1, ann2, bob]) await call(client, 'subscribe', 'room:1')
  t.strictSame((await app.realtime.presence('room:1')).map(({ user, info }) => ({ user, info })).sort((a, b) => a.user.localeCompare(b.user)), [
    { user: 'ann', info: { name: 'Ann' } }, { user: 'ann', info: { name: 'Ann' } }, { user: 'bob', info: undefined }
  ])
  t.strictSame(await app.realtime.presenceStats('room:1'), { clients: 3, users: 2 })
  ann1.socket.close()
  await until(async () => (await app.realtime.presenceStats('room:1')).clients === 2, 'one is gone')
  t.strictSame(await app.realtime.presenceStats('room:1'), { clients: 2, users: 2 })
  await call(ann2, 'unsubscribe', 'room:1')
  t.match(await app.realtime.presence('room:1'), [{ user: 'bob' }])
  await call(bob, 'subscribe', 'plain:1')
  t.strictSame(await app.realtime.presence('plain:1'), [], 'none without the rule')
})

t.test('info shows this instance', async (t) => {
  process.env.K_REVISION = 'chat-00001-abc'
  t.teardown(() => { delete process.env.K_REVISION })
  const { app, url } = await startApp(t, { onMessage })
  const client = await connect(t, `${url}/ws`)
  await call(client, 'subscribe', 'a')
  await call(client, 'subscribe', 'b')
  const [info, ...others] = await app.realtime.info()
  t.strictSame(others, [])
  t.match(info, { instance: /.+/, connections: 1, channels: 2, uptime: Number, revision: 'chat-00001-abc' })
  t.equal(info!.instance, (await app.inject('/health')).json().instance)
})

t.test('sessions keep the state of a user', async (t) => {
  const { app } = await startApp(t)
  const { sessions } = app.realtime
  t.equal(await sessions.get('ann'), undefined)
  await sessions.set('ann', { cart: [1, 2], theme: 'dark' })
  await sessions.set('ann', { theme: undefined, lang: 'de' }, { ttl: '1m' })
  t.strictSame(await sessions.get('ann'), { cart: [1, 2], lang: 'de' })
  await sessions.delete('ann')
  t.equal(await sessions.get('ann'), undefined)
  const cyclic: Record<string, unknown> = {}
  cyclic.self = cyclic
  for (const f of [() => {}, cyclic, 1n]) await t.rejects(sessions.set('ann', { f }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /"f"/ })
  await t.rejects(sessions.set('ann', {}, { ttl: 'soon' }), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  await t.rejects(sessions.set('ann', null as never), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  for (const user of ['', undefined, 5]) await t.rejects(sessions.get(user as string), { code: 'FST_CRWS_INVALID_ARGUMENT' })
})

t.test('users and connections are subscribed, unsubscribed and disconnected by name', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    authenticate: ({ headers }) => ({ user: headers['x-user'] as string }),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const open = (user: string) => connect(t, `${url}/ws`, { headers: { 'x-user': user } })
  const [ann1, ann2, bob] = await Promise.all(['ann', 'ann', 'bob'].map(open)) as [any, any, any]
  const connectionsOf = (user: string) => [...app.realtime.connections].filter(connection => connection.user === user)

  await app.realtime.subscribe('ann', 'news')
  await until(() => connectionsOf('ann').every(({ channels }) => channels.has('news')), 'both are subscribed')
  await app.realtime.publish('news', 'one')
  t.equal(await ann1.next(), 'one')
  t.equal(await ann2.next(), 'one')
  await app.realtime.unsubscribe('ann', 'news')
  await until(() => connectionsOf('ann').every(({ channels }) => channels.size === 0), 'both are unsubscribed')

  const [connection] = connectionsOf('ann')
  await app.realtime.disconnect({ client: connection!.id }, { code: 4001, reason: 'only you' })
  t.strictSame(await Promise.race([ann1.closed, ann2.closed]), { code: 4001, reason: 'only you' })
  await until(() => connectionsOf('ann').length === 1, 'the other one stays')
  await app.realtime.disconnect({ user: 'ann' })
  await Promise.all([ann1.closed, ann2.closed])
  await app.realtime.disconnect('bob')
  t.strictSame(await bob.closed, { code: 3503, reason: 'force disconnect' })
  await until(() => ends.length === 3, 'onDisconnect of all')
  t.strictSame(ends.map(({ code, cause }) => ({ code, cause })), [4001, 3503, 3503].map(code => ({ code, cause: 'server' })))

  await app.realtime.disconnect('nobody')
  await app.realtime.disconnect({ client: 'nobody' })
  await app.realtime.subscribe('nobody', 'news')
  for (const target of ['', undefined, {}, { client: '' }, { user: '' }, null]) {
    await t.rejects(app.realtime.disconnect(target as string), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  }
  for (const end of [{ code: 1006 }, { code: 999 }, { code: 3000.5 }, { reason: 'x'.repeat(124) }, { reason: 5 as unknown as string }]) {
    await t.rejects(app.realtime.disconnect('bob', end), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  }
  await t.rejects(app.realtime.subscribe('', 'news'), { code: 'FST_CRWS_INVALID_ARGUMENT' })
})

t.test('a channel needs a name that can be one', async (t) => {
  const { app } = await startApp(t)
  for (const channel of ['', 5, undefined, 'x'.repeat(256), 'ü'.repeat(128), 'a\nb', '\u0000control', '\u007f']) {
    const name = channel as string
    await t.rejects(app.realtime.publish(name, 1), { code: 'FST_CRWS_INVALID_CHANNEL' })
    await t.rejects(app.realtime.history(name), { code: 'FST_CRWS_INVALID_CHANNEL' })
    await t.rejects(app.realtime.presence(name), { code: 'FST_CRWS_INVALID_CHANNEL' })
    await t.rejects(app.realtime.presenceStats(name), { code: 'FST_CRWS_INVALID_CHANNEL' })
    await t.rejects(app.realtime.subscribe('ann', name), { code: 'FST_CRWS_INVALID_CHANNEL' })
    await t.rejects(app.realtime.broadcast(['fine', name], 1), { code: 'FST_CRWS_INVALID_CHANNEL' })
  }
  await app.realtime.publish('x'.repeat(255), 1)
  await t.rejects(app.realtime.publish('a', undefined), { code: 'FST_CRWS_INVALID_DATA' })
})

for (const [name, fail] of [
  ['throws', () => { throw new Error('boom') }],
  ['rejects', async () => {
    await wait(1)
    throw new Error('boom')
  }],
  ['throws something that is no error', () => { throw undefined }] // eslint-disable-line no-throw-literal
] as const) {
  for (const handler of ['onConnect', 'onMessage', 'onDisconnect'] as const) {
    t.test(`${handler} that ${name} is logged and ends that connection alone`, async (t) => {
      const entries: any[] = []
      const { app, url } = await startApp(t, {
        authenticate: ({ headers }) => ({ user: headers['x-user'] as string }),
        onMessage: (connection, data) => connection.send(data),
        [handler]: (connection: Connection, ...rest: unknown[]) => {
          if (connection.user === 'bad') return fail()
          if (handler === 'onMessage') connection.send(rest[0])
        }
      }, { logger: { stream: { write: (line: string) => { entries.push(JSON.parse(line)) } } } })
      const good = await connect(t, `${url}/ws`, { headers: { 'x-user': 'good' } })
      const bad = await connect(t, `${url}/ws`, { headers: { 'x-user': 'bad' } })
      if (handler === 'onMessage') bad.send('x')
      if (handler === 'onDisconnect') bad.socket.close(1000)
      t.equal((await bad.closed).code, handler === 'onDisconnect' ? 1000 : 1011)
      const failed = await until(() => entries.find(({ event }) => event === 'connection.failed'), 'the log entry')
      t.equal(failed.level, 50)
      t.equal(failed.user, 'bad')
      if (name.includes('no error')) t.match(failed.msg, /undefined/)
      else t.match(failed.err, { message: 'boom', stack: /plugin\.test\.ts/ })
      good.send('still here')
      t.equal(await good.next(), 'still here')
      t.equal([...app.realtime.connections].length, 1)
      t.equal((await connect(t, `${url}/ws`, { headers: { 'x-user': 'good' } })).socket.readyState, 1)
    })
  }
}

t.test('a message after the one that failed is not handled', async (t) => {
  const handled: unknown[] = []
  const { url } = await startApp(t, {
    onMessage: (_connection, data) => {
      handled.push(data)
      throw new Error('boom')
    }
  })
  const raw = await openRaw(t, url)
  raw.socket.write(Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(TEXT, '1'), frame(TEXT, '2'), frame(TEXT, '3'), frame(CLOSE, Buffer.from([3, 232]))]))
  await raw.ended
  t.strictSame(handled, ['1'])
})

t.test('a second registration is a clear error', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, quiet)
  await t.rejects(async () => await app.register(cloudRunWebSocket, quiet), { code: 'FST_CRWS_ALREADY_REGISTERED' })
  const inner = Fastify()
  t.teardown(() => inner.close())
  inner.register(cloudRunWebSocket, quiet)
  inner.register(async (scope) => { await scope.register(cloudRunWebSocket, quiet) })
  await t.rejects(async () => await inner.ready(), { code: 'FST_CRWS_ALREADY_REGISTERED' })
  const siblings = Fastify()
  t.teardown(() => siblings.close())
  siblings.register(async (scope) => { await scope.register(cloudRunWebSocket, quiet) }, { prefix: '/a' })
  siblings.register(async (scope) => { await scope.register(cloudRunWebSocket, quiet) }, { prefix: '/b' })
  await t.rejects(async () => await siblings.ready(), { code: 'FST_CRWS_ALREADY_REGISTERED' })
})

t.test("a host's own @fastify/websocket is used, and its routes go on working", async (t) => {
  const entries: any[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { entries.push(JSON.parse(line)) } } } })
  await app.register(fastifyWebsocket, { options: { maxPayload: 1_000_000 } })
  const ends: End[] = []
  await app.register(cloudRunWebSocket, { ...quiet, maxPayload: 100, onMessage: (connection, data) => connection.send(data), onDisconnect: (_connection, end) => { ends.push(end) } })
  app.get('/mine', { websocket: true }, (socket) => {
    socket.on('message', (data: Buffer) => socket.send(data.length))
  })
  const url = await listen(t, app)

  const mine = await connect(t, `${url}/mine`)
  mine.send('x'.repeat(100_000))
  t.equal(await mine.next(), '100000')
  const client = await connect(t, `${url}/ws`)
  client.send('x'.repeat(100))
  t.equal(await client.next(), 'x'.repeat(100))
  client.send('x'.repeat(101))
  t.strictSame(await client.closed, { code: 1009, reason: 'message too big' }, 'our limit holds although the server takes more')
  await until(() => ends.length === 1, 'onDisconnect')
  t.match(ends, [{ code: 1009, cause: 'policy' }])

  const last = await connect(t, `${url}/ws`)
  await app.close()
  t.strictSame(await last.closed, { code: 1001, reason: 'shutdown' }, 'its preClose does not get ahead of the drain')
  t.strictSame(entries, [])
})

t.test("with a host's own @fastify/websocket no upgrade keeps the app from closing", async (t) => {
  const app = Fastify()
  await app.register(fastifyWebsocket)
  await app.register(cloudRunWebSocket, quiet)
  app.get('/mine', { websocket: true }, () => {})
  const url = await listen(t, app)
  const late = await openRaw(t, url)
  const keepsDraining = await connect(t, `${url}/ws`)
  keepsDraining.socket.pause()
  const closed = app.close()
  await until(() => app.server.listeners('upgrade').length === 1 && [...app.realtime.connections].every(({ open }) => !open), 'the drain has begun')
  late.socket.write(upgradeRequest('/mine'))
  t.match((await late.ended).toString(), /^HTTP\/1\.1 503 /)
  await closed
})

t.test("a host's own @fastify/websocket may keep no list of its clients", async (t) => {
  const app = Fastify()
  await app.register(fastifyWebsocket, { options: { clientTracking: false } })
  await app.register(cloudRunWebSocket, { ...quiet, onMessage: (connection, data) => connection.send(data) })
  const url = await listen(t, app)
  const client = await connect(t, `${url}/ws`)
  client.send('hi')
  t.equal(await client.next(), 'hi')
  await app.close()
  t.strictSame(await client.closed, { code: 1001, reason: 'shutdown' })
})

t.test("a WebSocket route of the host's that throws is logged and closes with 1011; what its client does wrong is not", async (t) => {
  const entries: any[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { entries.push(JSON.parse(line)) } } } })
  await app.register(cloudRunWebSocket, quiet)
  app.get('/sync', { websocket: true }, () => { throw new Error('at once') })
  app.get('/async', { websocket: true }, async () => { throw new Error('later') })
  app.get('/fine', { websocket: true }, () => {})
  const url = await listen(t, app)
  for (const path of ['sync', 'async']) {
    const { closed } = await connect(t, `${url}/${path}`)
    t.strictSame(await closed, { code: 1011, reason: 'internal error' })
  }
  const wrong = await openRaw(t, url)
  wrong.socket.write(Buffer.concat([Buffer.from(upgradeRequest('/fine')), frame(TEXT, 'x', { masked: false })]))
  await wrong.ended
  t.match(entries, [{ level: 50, err: { message: 'at once' } }, { level: 50, err: { message: 'later' } }])
  t.equal(entries.length, 2)
})

t.test('the request of an upgrade is not kept for the life of its connection', async (t) => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const requests: WeakRef<object>[] = []
  const app = Fastify()
  app.addHook('onRequest', async ({ raw }) => { requests.push(new WeakRef(raw)) })
  await app.register(cloudRunWebSocket, { ...quiet, onMessage: (connection, data) => connection.send(data) })
  const url = await listen(t, app)
  const client = await connect(t, `${url}/ws`)
  await until(() => {
    gc()
    return requests.length === 1 && requests[0]!.deref() === undefined
  }, 'it is gone')
  client.send('hi')
  t.equal(await client.next(), 'hi', 'and the connection is not')
})

t.test("a host's own @fastify/rate-limit is used", async (t) => {
  const app = Fastify()
  await app.register(fastifyRateLimit, { max: 2 })
  await app.register(cloudRunWebSocket, { ...quiet, rateLimit: { connections: { max: 3, timeWindow: '1m' } } })
  app.get('/mine', () => 'mine')
  const url = await listen(t, app)
  for (let i = 0; i < 3; i++) await connect(t, `${url}/ws`)
  t.equal((await rejected(`${url}/ws`)).statusCode, 429)
  for (const expected of [200, 200, 429]) t.equal((await app.inject('/mine')).statusCode, expected)
  for (let i = 0; i < 5; i++) t.equal((await app.inject('/health')).statusCode, 200, 'probes are never refused')
})

t.test("a host's @fastify/websocket and @fastify/rate-limit in an outer scope are enough", async (t) => {
  const app = Fastify()
  app.register(fastifyWebsocket)
  app.register(fastifyRateLimit, { global: false })
  app.register(async (scope) => {
    await scope.register(cloudRunWebSocket, { ...quiet, onMessage: (connection, data) => connection.send(data) })
    t.ok(scope.realtime)
  }, { prefix: '/v1' })
  await app.ready()
  t.notOk(app.hasDecorator('realtime'), 'the decorator stays in its scope')
  const url = await listen(t, app)
  const client = await connect(t, `${url}/v1/ws`)
  client.send('hi')
  t.equal(await client.next(), 'hi')
  t.equal((await app.inject('/v1/health')).statusCode, 200)
  t.equal((await app.inject('/health')).statusCode, 404)
})

t.test('hooks of the host hold for the route', async (t) => {
  const app = Fastify()
  app.addHook('onRequest', async (request, reply) => {
    if (request.headers['x-blocked'] !== undefined) return reply.code(418).send('no')
  })
  await app.register(cloudRunWebSocket, quiet)
  const url = await listen(t, app)
  t.match(await rejected(`${url}/ws`, { headers: { 'x-blocked': '1' } }), { statusCode: 418, body: 'no' })
  await connect(t, `${url}/ws`)
  t.equal([...app.realtime.connections].length, 1)
})

t.test('injectWS reaches the route without a network', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, {
    ...quiet,
    authenticate: ({ headers }) => {
      if (headers['x-user'] === undefined) throw new Error('who?')
      return { user: headers['x-user'] as string }
    },
    onMessage: (connection, data) => connection.send(`${connection.user}: ${data}`)
  })
  await app.ready()
  const socket = await app.injectWS('/ws', { headers: { 'x-user': 'ann' } })
  socket.send('hi')
  const [data] = await once(socket, 'message')
  t.equal(String(data), 'ann: hi')
  const closed = once(socket, 'close')
  socket.close()
  await closed
  await t.rejects(app.injectWS('/ws'), /401/)
})

t.test('every route may be left out or put elsewhere', async (t) => {
  const { app, url } = await startApp(t, { path: false, healthPath: false, readyPath: false })
  for (const path of ['/ws', '/health', '/ready']) t.equal((await app.inject(path)).statusCode, 404)
  t.equal((await rejected(`${url}/ws`)).statusCode, 404)
  await app.realtime.publish('a', 1)

  const other = await startApp(t, { path: '/socket', healthPath: '/alive', readyPath: '/open' })
  await connect(t, `${other.url}/socket`)
  t.equal((await other.app.inject('/alive')).statusCode, 200)
  t.equal((await other.app.inject('/open')).statusCode, 200)
})

t.test('a plain request to the WebSocket route is told so', async (t) => {
  const { app } = await startApp(t)
  const response = await app.inject('/ws')
  t.equal(response.statusCode, 426)
  t.equal(response.headers.upgrade, 'websocket')
  t.match(response.json(), { statusCode: 426, code: 'FST_CRWS_UPGRADE_REQUIRED', error: 'Upgrade Required', message: /WebSocket client/ })
  t.equal((await app.inject({ method: 'HEAD', url: '/ws' })).statusCode, 426)
  t.equal((await app.inject({ method: 'POST', url: '/ws' })).statusCode, 404)
})

t.test('a message over maxPayload closes that connection with 1009', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, { maxPayload: 10, onMessage: (connection, data) => connection.send(data), onDisconnect: (_connection, end) => { ends.push(end) } })
  const client = await connect(t, `${url}/ws`)
  client.send('0123456789')
  t.equal(await client.next(), '0123456789')
  client.send('01234567890')
  t.strictSame(await client.closed, { code: 1009, reason: '' }, '`ws` sends no reason')
  await until(() => ends.length === 1, 'onDisconnect')
  t.strictSame(ends, [{ code: 1009, reason: 'message too big', cause: 'policy' }])
})

t.test('malformed upgrades are answered, and the app goes on', async (t) => {
  const { app, url } = await startApp(t, { onMessage: (connection, data) => connection.send(data) })
  for (const [what, bytes, answer] of [
    ['an old version', upgradeRequest('/ws', { 'Sec-WebSocket-Version': '7' }), /^HTTP\/1\.1 4\d\d /],
    ['no version', upgradeRequest('/ws', { 'Sec-WebSocket-Version': undefined }), /^HTTP\/1\.1 4\d\d /],
    ['no key', upgradeRequest('/ws', { 'Sec-WebSocket-Key': undefined }), /^HTTP\/1\.1 400 /],
    ['a key that is none', upgradeRequest('/ws', { 'Sec-WebSocket-Key': 'short' }), /^HTTP\/1\.1 400 /],
    ['another protocol', upgradeRequest('/ws', { Upgrade: 'h2c' }), /^HTTP\/1\.1 4\d\d /],
    ['another method', upgradeRequest('/ws').replace('GET', 'POST'), /^HTTP\/1\.1 40[045] /],
    ['a path that does not exist', upgradeRequest('/nowhere'), /^HTTP\/1\.1 404 /],
    ['a bad path', upgradeRequest('/%'), /^HTTP\/1\.1 4\d\d /],
    ['a subprotocol that is malformed', upgradeRequest('/ws', { 'Sec-WebSocket-Protocol': 'a,,b' }), /^HTTP\/1\.1 400 /],
    ['garbage', Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]), /^HTTP\/1\.1 400 /]
  ] as const) {
    const raw = await openRaw(t, url)
    raw.socket.write(bytes)
    t.match((await raw.ended).toString('latin1'), answer, what)
  }
  const half = await openRaw(t, url)
  half.socket.write(upgradeRequest('/ws').slice(0, 60))
  const reset = await openRaw(t, url)
  reset.socket.write(upgradeRequest('/ws'))
  reset.socket.resetAndDestroy()

  const client = await connect(t, `${url}/ws`)
  client.send('fine')
  t.equal(await client.next(), 'fine')
  half.socket.destroy()
  await until(() => [...app.realtime.connections].length === 1, 'the others are gone')
})

t.test('frames that are none close the connection with the right code', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, { maxPayload: 1_000, onMessage: (connection, data) => connection.send(data), onDisconnect: (_connection, end) => { ends.push(end) } })
  for (const [what, bytes, code] of [
    ['not masked', frame(TEXT, 'x', { masked: false }), 1002],
    ['an opcode that is reserved', frame(3, 'x'), 1002],
    ['a reserved bit', frame(TEXT, 'x', { rsv: 4 }), 1002],
    ['a continuation of nothing', frame(0, 'x'), 1002],
    ['a ping in fragments', frame(9, 'x', { fin: false }), 1002],
    ['a ping that is too long', frame(9, 'x'.repeat(126)), 1002],
    ['a close code that is not allowed', frame(CLOSE, Buffer.from([3, 237])), 1002],
    ['a text that is not UTF-8', frame(TEXT, Buffer.from([0xff, 0xfe])), 1007],
    ['a close reason that is not UTF-8', frame(CLOSE, Buffer.from([3, 232, 0xff])), 1007],
    ['too much', frame(TEXT, 'x'.repeat(1_001)), 1009],
    ['too much in fragments', Buffer.concat([frame(TEXT, 'x'.repeat(600), { fin: false }), frame(0, 'x'.repeat(600))]), 1009]
  ] as const) {
    ends.length = 0
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/ws'))
    const { length } = await raw.head()
    raw.socket.write(bytes)
    const answer = (await raw.ended).subarray(length + 4)
    t.equal(answer[0], 0x80 | CLOSE, `${what}: a close frame`)
    t.equal(answer.readUInt16BE(2), code, `${what}: its code`)
    await until(() => ends.length === 1, 'onDisconnect')
    t.match(ends[0], { code, cause: 'policy', reason: /.+/ }, `${what}: what the host is told`)
  }
  const client = await connect(t, `${url}/ws`)
  client.send('fine')
  t.equal(await client.next(), 'fine')
})

t.test('a message in fragments is one message', async (t) => {
  const { url } = await startApp(t, { onMessage: (connection, data) => connection.send(data) })
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  const { length } = await raw.head()
  raw.socket.write(Buffer.concat([frame(TEXT, 'one ', { fin: false }), frame(0, 'two ', { fin: false }), frame(0, 'three')]))
  await until(() => raw.received().length > length + 4, 'the echo')
  t.equal(raw.received().subarray(length + 6).toString(), 'one two three')
})
