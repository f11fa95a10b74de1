import fastifyRateLimit from '@fastify/rate-limit'
import fastifyWebsocket from '@fastify/websocket'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setImmediate as endOfTurn, setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Connection, End, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { CLOSE, frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

const quiet: Options = { shutdown: { signals: false, timeout: 2_000 } }

async function listen (t: Test, app: FastifyInstance): Promise<string> {
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  return `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

interface Answer { id: number, result?: unknown, error?: string }

/** Lets a client subscribe and unsubscribe, so that a test is written from the client's side. */
const onMessage: Options['onMessage'] = async (connection, data) => {
  const { id, method, channel, options } = JSON.parse(String(data))
  try {
    const result = method === 'subscribe' ? await connection.subscribe(channel, options) : await connection.unsubscribe(channel)
    connection.send({ id, result: result ?? null })
  } catch (error) {
    connection.send({ id, error: (error as { code: string }).code })
  }
}

async function call (client: Client, method: 'subscribe' | 'unsubscribe', channel: string, options?: object): Promise<Answer | undefined> {
  const id = Math.random()
  client.send(JSON.stringify({ id, method, channel, options }))
  return until(() => client.messages.map(message => parse(message)).find(answer => answer?.id === id), `answer to ${method}`)
}

function parse (message: string | Buffer): Answer | undefined {
  try {
    return JSON.parse(String(message))
  } catch {
    return undefined
  }
}

/** Every one of these calls fails with this code. */
async function rejectAll (t: Test, code: string, calls: Promise<unknown>[]): Promise<void> {
  const codes = await Promise.all(calls.map(call => call.then(() => 'no error', (error: { code: string }) => error.code)))
  t.strictSame(codes, calls.map(() => code))
}

/** Of the answers to so many requests, one after the other. */
async function statusCodes (app: FastifyInstance, path: string, count: number): Promise<number[]> {
  const codes: number[] = []
  while (codes.length < count) codes.push((await app.inject(path)).statusCode)
  return codes
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

t.test('a first message in the same packet as the upgrade is not lost, however slow the app is', async (t) => {
  const log: unknown[] = []
  const bytes = Buffer.concat([Buffer.from(upgradeRequest('/ws')), frame(TEXT, 'first'), frame(TEXT, 'second')])
  const { url } = await startApp(t, {
    authenticate: async ({ socket }) => {
      await until(() => socket.bytesRead === bytes.length, 'both messages are there')
      return { user: 'ann' }
    },
    onConnect: async () => {
      await endOfTurn()
      log.push('connected')
    },
    onMessage: (_connection, data) => { log.push(data) }
  })
  const raw = await openRaw(t, url)
  raw.socket.write(bytes)
  t.match(await raw.head(), /^HTTP\/1\.1 101 /)
  await until(() => log.length === 3, 'both messages')
  t.strictSame(log, ['connected', 'first', 'second'])
})

t.test('send takes strings, JSON and bytes, and throws for data that JSON cannot carry', async (t) => {
  const sent: boolean[] = []
  const codes: string[] = []
  const { url } = await startApp(t, {
    onConnect: (connection) => {
      const good = ['text', { a: [1, null] }, 5, null, true, Buffer.from('bytes'), new Uint8Array([1, 2])]
      sent.push(...good.map(data => connection.send(data)))
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
  t.strictSame(sent, Array(7).fill(true))
  t.strictSame(codes, Array(5).fill('FST_CRWS_INVALID_DATA'))
})

t.test('a publication reaches everybody in the channel, and nobody else', async (t) => {
  const { app, url } = await startApp(t, { onMessage })
  const [a, b, c] = await Promise.all([0, 1, 2].map(() => connect(t, `${url}/ws`))) as [Client, Client, Client]
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
  const publishTwo = () => app.realtime.publish('chat:1', { two: 2 }, { idempotencyKey: 'k' })
  t.strictSame(await publishTwo(), { offset: 2, epoch })
  t.strictSame(await publishTwo(), { offset: 2, epoch }, 'the same key publishes nothing')
  t.strictSame(await app.realtime.publish('chat:1', 'unkept', { history: false }), {})

  const history = await app.realtime.history('chat:1')
  const kept = [{ data: 'one', offset: 1, epoch, tags: { lang: 'en' } }, { data: { two: 2 }, offset: 2 }]
  t.match(history, { offset: 2, epoch, publications: kept })
  t.equal(history.publications.length, 2)
  t.ok(Math.abs(history.publications[0]!.time - Date.now()) < 60_000)
  t.match(await app.realtime.history('chat:1', { limit: 1, reverse: true }), { publications: [{ offset: 2 }] })
  t.match(await app.realtime.history('chat:1', { limit: 0 }), { publications: [], offset: 2, epoch })
  t.match(await app.realtime.history('chat:1', { since: { offset: 1, epoch } }), { publications: [{ offset: 2 }] })
  const otherEpoch = app.realtime.history('chat:1', { since: { offset: 1, epoch: 'other' } })
  await t.rejects(otherEpoch, { code: 'FST_CRWS_UNRECOVERABLE_POSITION' })
  await rejectAll(t, 'FST_CRWS_INVALID_ARGUMENT', [-1, 1.5, Number.NaN].map(limit => app.realtime.history('chat:1', { limit })))

  const client = await connect(t, `${url}/ws`)
  t.match(await call(client, 'subscribe', 'chat:1', { since: { offset: 0, epoch } }), { result: { recovered: true, offset: 2, epoch } })
  t.strictSame(client.messages.slice(0, 2), ['one', '{"two":2}'], 'what was missed comes before the result')
  await app.realtime.publish('chat:1', 'three')
  await until(() => client.messages.at(-1) === 'three', 'the live publication')
  t.equal(client.messages.length, 4)

  for (const data of ['four', 'five']) await app.realtime.publish('chat:1', data)
  for (const since of [{ offset: 1, epoch }, { offset: 1, epoch: 'other' }, { offset: 99, epoch }]) {
    const late = await connect(t, `${url}/ws`)
    const answer = await call(late, 'subscribe', 'chat:1', { since })
    t.match(answer, { result: { recovered: false, offset: 5, epoch } }, `not from ${JSON.stringify(since)}`)
    t.strictSame(late.messages, [JSON.stringify(answer)], 'and then nothing but what comes from now on')
  }
  const withoutHistory = await call(client, 'subscribe', 'plain:1', { since: { offset: 1, epoch } })
  t.match(withoutHistory, { error: 'FST_CRWS_INVALID_ARGUMENT' }, 'no position without history')
})

t.test('presence shows connections and users', async (t) => {
  const { app, url } = await startApp(t, {
    onMessage,
    authenticate: ({ headers }) => ({ user: headers['x-user'] as string, ...(headers['x-user'] === 'ann' && { info: { name: 'Ann' } }) }),
    channels: { room: { presence: true } }
  })
  const open = (user: string) => connect(t, `${url}/ws`, { headers: { 'x-user': user } })
  const [ann1, ann2, bob] = await Promise.all(['ann', 'ann', 'bob'].map(open)) as [Client, Client, Client]
  for (const client of [ann1, ann2, bob]) await call(client, 'subscribe', 'room:1')
  const members = (await app.realtime.presence('room:1')).toSorted((a, b) => a.user.localeCompare(b.user))
  t.strictSame(members.map(({ user, info }) => ({ user, info })), [
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
  await rejectAll(t, 'FST_CRWS_INVALID_ARGUMENT', ['', undefined, 5].map(user => sessions.get(user as string)))
})

t.test('users and connections are subscribed, unsubscribed and disconnected by name', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    authenticate: ({ headers }) => ({ user: headers['x-user'] as string }),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const open = (user: string) => connect(t, `${url}/ws`, { headers: { 'x-user': user } })
  const [ann1, ann2, bob] = await Promise.all(['ann', 'ann', 'bob'].map(open)) as [Client, Client, Client]
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
  const targets = ['', undefined, {}, { client: '' }, { user: '' }, null]
  const wrongEnds = [{ code: 1006 }, { code: 999 }, { code: 3000.5 }, { reason: 'x'.repeat(124) }, { reason: 5 as never }]
  await rejectAll(t, 'FST_CRWS_INVALID_ARGUMENT', [
    ...targets.map(target => app.realtime.disconnect(target as string)),
    ...wrongEnds.map(end => app.realtime.disconnect('bob', end)),
    app.realtime.subscribe('', 'news')
  ])
})

t.test('a channel name must not be empty, too long or contain control characters', async (t) => {
  const { app: { realtime } } = await startApp(t)
  const wrong = ['', 5, undefined, 'x'.repeat(256), 'ü'.repeat(128), 'a\nb', '\u0000control', '\u007f'] as string[]
  await rejectAll(t, 'FST_CRWS_INVALID_CHANNEL', wrong.flatMap((name): Promise<unknown>[] => [
    realtime.publish(name, 1), realtime.history(name), realtime.presence(name), realtime.presenceStats(name),
    realtime.subscribe('ann', name), realtime.broadcast(['fine', name], 1)
  ]))
  await realtime.publish('x'.repeat(255), 1)
  await t.rejects(realtime.publish('a', undefined), { code: 'FST_CRWS_INVALID_DATA' })
})

for (const [name, fail] of [
  ['throws', () => { throw new Error('boom') }],
  ['rejects', async () => {
    await endOfTurn()
    throw new Error('boom')
  }],
  ['throws something that is no error', () => { throw undefined }] // eslint-disable-line no-throw-literal
] as const) {
  for (const handler of ['onConnect', 'onMessage', 'onDisconnect'] as const) {
    t.test(`${handler} that ${name} is logged and ends that connection alone`, async (t) => {
      const { entries, logger } = collectLog()
      const { app, url } = await startApp(t, {
        authenticate: ({ headers }) => ({ user: headers['x-user'] as string }),
        onMessage: (connection, data) => connection.send(data),
        [handler]: (connection: Connection, ...rest: unknown[]) => {
          if (connection.user === 'bad') return fail()
          if (handler === 'onMessage') connection.send(rest[0])
        }
      }, { logger })
      const good = await connect(t, `${url}/ws`, { headers: { 'x-user': 'good' } })
      const bad = await connect(t, `${url}/ws`, { headers: { 'x-user': 'bad' } })
      if (handler === 'onMessage') bad.send('x')
      if (handler === 'onDisconnect') bad.socket.close(1000)
      t.equal((await bad.closed).code, handler === 'onDisconnect' ? 1000 : 1011)
      const failed = await until(() => entries.find(({ event }) => event === 'connection.failed'), 'the log entry')
      const error = name.includes('no error') ? { msg: /undefined/ } : { err: { message: 'boom', stack: /plugin\.test\.ts/ } }
      t.match(failed, { level: 50, user: 'bad', ...error })
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
  const frames = [frame(TEXT, '1'), frame(TEXT, '2'), frame(TEXT, '3'), frame(CLOSE, Buffer.from([3, 232]))]
  raw.socket.write(Buffer.concat([Buffer.from(upgradeRequest('/ws')), ...frames]))
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

t.test("the app's own @fastify/websocket is used, and its routes go on working", async (t) => {
  const { entries, logger } = collectLog({ level: 'warn' })
  const app = Fastify({ logger })
  await app.register(fastifyWebsocket, { options: { maxPayload: 1_000_000 } })
  const ends: End[] = []
  await app.register(cloudRunWebSocket, {
    ...quiet,
    maxPayload: 100,
    onMessage: (connection, data) => connection.send(data),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
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
  t.match(entries, [{ hint: 'websocket_bounds' }])
})

t.test("with the app's own @fastify/websocket no upgrade keeps the app from closing", async (t) => {
  const app = Fastify()
  await app.register(fastifyWebsocket)
  await app.register(cloudRunWebSocket, quiet)
  app.get('/mine', { websocket: true }, () => {})
  const url = await listen(t, app)
  const late = await openRaw(t, url)
  const keepsDraining = await connect(t, `${url}/ws`)
  keepsDraining.socket.pause()
  const closed = app.close()
  const upgradesAreRefused = () => app.server.listeners('upgrade').length === 1
  await until(() => upgradesAreRefused() && [...app.realtime.connections].every(({ open }) => !open), 'the drain has begun')
  late.socket.write(upgradeRequest('/mine'))
  t.match((await late.ended).toString(), /^HTTP\/1\.1 503 /)
  await closed
})

t.test("the app's own @fastify/websocket may be without clientTracking", async (t) => {
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

t.test("an error in the app's own WebSocket route is logged and closes with 1011; an error of its client is not logged", async (t) => {
  const { entries, logger } = collectLog({ level: 'warn' })
  const app = Fastify({ logger })
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

t.test("the app's own @fastify/rate-limit is used", async (t) => {
  const app = Fastify()
  await app.register(fastifyRateLimit, { max: 2 })
  await app.register(cloudRunWebSocket, { ...quiet, rateLimit: { connections: { max: 3, timeWindow: '1m' } } })
  app.get('/mine', () => 'mine')
  const url = await listen(t, app)
  for (let i = 0; i < 3; i++) await connect(t, `${url}/ws`)
  t.equal((await rejected(`${url}/ws`)).statusCode, 429)
  t.strictSame(await statusCodes(app, '/mine', 3), [200, 200, 429])
  t.strictSame(await statusCodes(app, '/health', 5), Array(5).fill(200), 'probes are never refused')
})

t.test("the app's @fastify/websocket and @fastify/rate-limit in an outer scope are enough", async (t) => {
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

t.test("the app's hooks run for the route", async (t) => {
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

t.test('every route can be left out or moved', async (t) => {
  const { app, url } = await startApp(t, { path: false, healthPath: false, readyPath: false })
  const responses = await Promise.all(['/ws', '/health', '/ready'].map(path => app.inject(path)))
  t.strictSame(responses.map(({ statusCode }) => statusCode), [404, 404, 404])
  t.equal((await rejected(`${url}/ws`)).statusCode, 404)
  await app.realtime.publish('a', 1)

  const other = await startApp(t, { path: '/socket', healthPath: '/alive', readyPath: '/open' })
  await connect(t, `${other.url}/socket`)
  t.equal((await other.app.inject('/alive')).statusCode, 200)
  t.equal((await other.app.inject('/open')).statusCode, 200)
})

t.test('a plain request to the WebSocket route gets 426', async (t) => {
  const { app } = await startApp(t)
  const response = await app.inject('/ws')
  t.equal(response.statusCode, 426)
  t.equal(response.headers.upgrade, 'websocket')
  t.match(response.json(), { statusCode: 426, code: 'FST_CRWS_UPGRADE_REQUIRED', error: 'Upgrade Required', message: /WebSocket client/ })
  t.equal((await app.inject({ method: 'HEAD', url: '/ws' })).statusCode, 404)
  t.equal((await app.inject({ method: 'POST', url: '/ws' })).statusCode, 404)
})

t.test('a message over maxPayload closes that connection with 1009', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, {
    maxPayload: 10,
    onMessage: (connection, data) => connection.send(data),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
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
  const cases: Array<[what: string, bytes: string | Buffer, answer: RegExp]> = [
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
  ]
  const answers = await Promise.all(cases.map(async ([what, bytes, expected]) => {
    const raw = await openRaw(t, url)
    raw.socket.write(bytes)
    return { what, expected, answer: (await raw.ended).toString('latin1') }
  }))
  t.strictSame(answers.filter(({ expected, answer }) => !expected.test(answer)), [])
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

t.test('malformed frames close the connection with the right code', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, {
    maxPayload: 1_000,
    onMessage: (connection, data) => connection.send(data),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const cases: Array<[what: string, bytes: Buffer, code: number]> = [
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
  ]
  const seen: unknown[] = []
  for (const [what, bytes] of cases) {
    ends.length = 0
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/ws'))
    const { length } = await raw.head()
    raw.socket.write(bytes)
    const answer = (await raw.ended).subarray(length + 4)
    await until(() => ends.length === 1, 'onDisconnect')
    const { reason, ...end } = ends[0]!
    seen.push({ what, first: answer[0], code: answer.readUInt16BE(2), end, hasReason: reason !== '' })
  }
  t.strictSame(seen, cases.map(([what, , code]) => ({ what, first: 0x80 | CLOSE, code, end: { code, cause: 'policy' }, hasReason: true })))
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
