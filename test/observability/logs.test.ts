import { createConnection } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import type { Options } from '../../index.ts'
import { logEvents } from '../../lib/observability/log-events.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import type { Entry } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

const levels = { debug: 20, info: 30, warn: 40, error: 50 }

function newLog () {
  const { logger, entries } = collectLog()
  const of = (event: keyof typeof logEvents, fields: object = {}): Promise<Entry> =>
    until(() => entries.find(entry => isDeepStrictEqual(entry, { ...entry, event, ...fields }))!, `an entry for ${event}`)
  return { entries, logger, of, ours: () => entries.filter(({ event }) => event !== undefined && event !== 'plugin.started') }
}

const fieldsOf = ({ level: _level, time: _time, pid: _pid, hostname: _hostname, msg: _msg, ...fields }: Entry) => fields

t.test('a connection is logged from its beginning to its end', async (t) => {
  const { logger, of, ours, entries } = newLog()
  const { url } = await startApp(t, { authenticate: () => ({ user: 'ann' }), onMessage: (connection, data) => connection.send(`${data}!`) }, { logger })
  const client = await connect(t, `${url}/ws?a=1`)
  client.send('hi')
  await client.next()
  client.socket.close(4000, 'bye')
  const closed = await of('connection.closed')
  const opened = await of('connection.opened')
  t.match(fieldsOf(opened), { event: 'connection.opened', connection: /^[0-9a-f-]{36}$/, user: 'ann', protocol: 'plain', reqId: /^req-/ })
  t.equal(Object.keys(fieldsOf(opened)).length, 5)
  t.ok(entries.some(({ reqId, req }) => reqId === opened.reqId && req?.url === '/ws?a=1'), "it is the id of Fastify's own entry")
  const { age, ...rest } = fieldsOf(closed)
  t.strictSame(rest, {
    event: 'connection.closed', connection: opened.connection, user: 'ann', protocol: 'plain', cause: 'client', code: 4000, reason: 'bye', received: 1, sent: 1, bytesReceived: 2, bytesSent: 3
  })
  t.ok(age >= 0 && age < 60)
  t.strictSame(ours().map(({ level }) => level), [30, 30])
})

t.test('a rejected upgrade is a warning with the reason', async (t) => {
  const { logger, ours } = newLog()
  const { url } = await startApp(t, {
    maxConnections: 1,
    rateLimit: { connections: { max: 5, timeWindow: '1m' } },
    authenticate: ({ headers }) => {
      if (headers['x-bad'] !== undefined) throw new Error('the token has expired')
      return {}
    }
  }, { logger })
  await rejected(`${url}/ws`, { headers: { origin: 'https://evil.example' } })
  await rejected(`${url}/ws`, { headers: { 'x-bad': '1' } })
  await connect(t, `${url}/ws`)
  await rejected(`${url}/ws?x`)
  for (let i = 0; i < 5; i++) await rejected(`${url}/ws`)
  const refused = ours().filter(({ event }) => event === 'connection.rejected')
  t.match(refused, [
    { level: 40, error: 'origin', path: '/ws', origin: 'https://evil.example', reqId: /^req-/ },
    { level: 40, error: 'auth', msg: /the token has expired/ },
    { level: 40, error: 'capacity', path: '/ws', msg: /1 connections/ }
  ])
  t.match(refused.at(-1), { level: 40, msg: /./ })
  t.ok(refused.every(({ level }) => level === 40))
})

t.test('an address that connects too often is named', async (t) => {
  const { logger, of } = newLog()
  const { url } = await startApp(t, { rateLimit: { connections: { max: 1, timeWindow: '1m' } } }, { logger })
  await connect(t, `${url}/ws`)
  await rejected(`${url}/ws`)
  t.match(fieldsOf(await of('connection.rejected')), { error: 'rate_limit', reqId: /^req-/, path: '/ws' })
  t.match((await of('connection.rejected')).msg, /too many connections from 127\.0\.0\.1/)
})

t.test('a client that does not read is a warning', async (t) => {
  const { logger, of } = newLog()
  const { url } = await startApp(t, { maxBufferedBytes: 1_000, onMessage: (connection) => { while (connection.send('x'.repeat(100_000))); } }, { logger })
  const client = await connect(t, `${url}/ws`)
  client.send('go')
  const slow = await of('connection.slow')
  t.match(fieldsOf(slow), { connection: /.+/, user: '', protocol: 'plain', bufferedBytes: Number })
  t.ok(slow.bufferedBytes > 1_000)
  t.equal(slow.level, 40)
  t.match(await of('connection.closed'), { cause: 'slow', code: 3008 })
})

t.test('a handler that fails is an error with its stack', async (t) => {
  const { logger, of } = newLog()
  const { url } = await startApp(t, { onMessage: () => { throw new TypeError('boom') } }, { logger })
  const client = await connect(t, `${url}/ws`)
  client.send('x')
  t.match(await of('connection.failed'), { level: 50, connection: /.+/, user: '', protocol: 'plain', err: { type: 'TypeError', message: 'boom', stack: /logs\.test\.ts/ }, msg: /boom/ })
})

t.test('a drain is logged with its numbers', async (t) => {
  const { logger, of } = newLog()
  const { app, url } = await startApp(t, {}, { logger })
  await connect(t, `${url}/ws`)
  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause()
  await app.close()
  t.match(fieldsOf(await of('drain.started')), { connections: 2, timeout: 2_000 })
  const finished = await of('drain.finished')
  t.match(fieldsOf(finished), { connections: 2, duration: Number })
  t.ok(finished.terminated >= 1)
  t.equal(finished.level, 30)
})

t.test('an upgrade that comes after app.close() is a warning', async (t) => {
  const { logger, of } = newLog()
  const { app, url } = await startApp(t, {}, { logger })
  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause()
  const closed = app.close()
  await until(() => [...app.realtime.connections].every(({ open }) => !open), 'the drain has begun')
  await rejected(`${url}/ws?late`)
  t.match(await of('connection.rejected'), { level: 40, error: 'draining', path: '/ws' })
  await closed
})

t.test('Redis going away and coming back is logged once each, and what was lost', async (t) => {
  const redis = await startRedis(t)
  const { logger, of, ours, entries } = newLog()
  const prefix = randomPrefix()
  const options: Options = { redis: redis.url, keyPrefix: prefix, channels: { chat: { history: { size: 5, ttl: '1m' } } } }
  const { app, url } = await startApp(t, options, { logger })
  t.match(await of('bridge.up'), { level: 30, away: 0 })
  const client = await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections
  await connection!.subscribe('chat:1')
  await app.realtime.publish('chat:1', 1)
  t.equal(await client.next(), '1', 'Pub/Sub has delivered it: what it has not when Redis dies is lost, too')
  entries.length = 0
  await redis.kill()
  t.match(await of('bridge.down'), { level: 50, reason: /.+/, msg: /Redis is down: .*[^.]\. Connections stay open/ })
  await redis.restart()
  const up = await of('bridge.up')
  t.ok(up.away > 0)
  t.match(await of('publications.missed', { channel: 'chat:1' }), { level: 40, count: 1, reason: /Redis has lost the history/ })
  t.strictSame(ours().filter(({ event }) => event.startsWith('bridge.')).map(({ event }) => event), ['bridge.down', 'bridge.up'])

  entries.length = 0
  await command(redis.port, ['PUBLISH', `${prefix}:pub:{chat:1}`, 'not ours'])
  t.match(await of('publications.missed', { channel: 'chat:1' }), { count: 1, reason: /not in the form/ })
})

t.test('a command of another instance that fails is a warning', async (t) => {
  const redis = await startRedis(t)
  const { logger, of, entries } = newLog()
  const options: Options = { redis: redis.url, keyPrefix: randomPrefix() }
  const [{ app, url }, other] = await Promise.all([startApp(t, { ...options, authenticate: () => ({ user: 'ann' }) }, { logger }), startApp(t, options)])
  await connect(t, `${url}/ws`)
  // As an instance of a later version would send it.
  const pubsub = `${options.keyPrefix}:pub:{\u0000control}`
  await until(async () => (await command(redis.port, ['PUBSUB', 'NUMSUB', pubsub])).endsWith(',2'), 'both listen')
  const send = async (json: string) => command(redis.port, ['PUBLISH', pubsub, `0  j ${Date.now()} other 1\n${json}`])
  await send('{"type":"dance","user":"ann"}')
  t.match(await of('control.failed'), { level: 40, command: /dance/, err: { stack: /control/ }, msg: /this version does not know commands of this kind/ })
  entries.length = 0
  await send('no json')
  t.match(await of('control.failed'), { level: 40, command: 'no json' })
  entries.length = 0
  for (const wrong of ['"code":1006,"reason":""', '"code":"3000","reason":""', '"code":3000,"reason":"{}"', '"code":3000']) {
    await send(`{"type":"disconnect","user":"ann",${wrong}}`)
    t.match(await of('control.failed', { command: `{"type":"disconnect","user":"ann",${wrong}}` }), { level: 40 })
  }
  await other.app.realtime.subscribe('ann', 'news')
  await until(() => [...app.realtime.connections][0]!.channels.has('news'), 'it goes on working')
})

t.test('a Redis that refuses every command is one error a minute for each of its replies, with the number of those left out', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = newLog()
  const { url, app } = await startApp(t, {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    authenticate: () => ({ user: 'ann' }),
    channels: { chat: { subscribe: true, publish: true, presence: true, history: { size: 10, ttl: '1m' } } },
    onMessage: async () => { await app.realtime.publish('chat:1', 1) }
  }, { logger })
  const client = await sdkClient(t, url, 'json').connected()
  const refuse = async (times: number) => {
    for (let i = 0; i < times; i++) await t.rejects(client.publish(`chat:${i}`, i), { code: 100 })
  }
  const failed = () => entries.filter(({ event }) => event === 'connection.failed')
  await command(redis.port, ['CONFIG', 'SET', 'maxmemory', '1'])
  await refuse(3)
  const plain = await connect(t, `${url}/ws`)
  plain.send('x')
  t.equal((await plain.closed).code, 1011)
  t.match(failed(), [{ level: 50, handler: 'publish', err: { code: 'FST_CRWS_REDIS_REFUSED', message: /OOM/ }, omitted: undefined }])
  await command(redis.port, ['CONFIG', 'SET', 'min-replicas-to-write', '1'])
  await refuse(2)
  t.match(failed().slice(1), [{ err: { message: /NOREPLICAS/ } }], 'another reply is another cause')
  const calls = () => entries.filter(({ event }) => event === 'call.failed')
  for (let i = 0; i < 3; i++) await t.rejects(app.realtime.publish('chat:1', i))
  t.equal(calls().length, 2, 'the same holds for calls of the app')

  const now = Date.now
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 60_000
  await refuse(1)
  t.match(failed().slice(2), [{ level: 50, err: { message: /NOREPLICAS/ }, omitted: 1 }])
  Date.now = now
  await command(redis.port, ['CONFIG', 'SET', 'maxmemory', '0', 'min-replicas-to-write', '0'])
})

t.test('a Redis that is down is not an error of every handler that needs it', async (t) => {
  const redis = await startRedis(t)
  const { logger, of, entries } = newLog()
  const { url, app } = await startApp(t, {
    redis: redis.url, keyPrefix: randomPrefix(), onMessage: async () => { await app.realtime.publish('chat:1', 1) }
  }, { logger })
  await redis.kill()
  await of('bridge.down')
  for (let i = 0; i < 3; i++) {
    const client = await connect(t, `${url}/ws`)
    client.send('x')
    t.equal((await client.closed).code, 1011)
  }
  t.match(entries.filter(({ event }) => event === 'connection.failed'), [{ level: 50, handler: 'onMessage', err: { code: 'FST_CRWS_REDIS_UNAVAILABLE' } }])
})

t.test('commands of another instance that fail alike are one warning a minute', async (t) => {
  const redis = await startRedis(t)
  const { logger, of, entries } = newLog()
  const keyPrefix = randomPrefix()
  await startApp(t, { redis: redis.url, keyPrefix }, { logger })
  const pubsub = `${keyPrefix}:pub:{\u0000control}`
  await until(async () => (await command(redis.port, ['PUBSUB', 'NUMSUB', pubsub])).endsWith(',1'), 'it listens')
  const send = async (json: string) => command(redis.port, ['PUBLISH', pubsub, `0  j ${Date.now()} other 1\n${json}`])
  for (let i = 0; i < 3; i++) await send(`{"type":"dance","step":${i}}`)
  await send('{"type":"disconnect","user":"ann","code":1,"reason":""}')
  await of('control.failed', { command: '{"type":"disconnect","user":"ann","code":1,"reason":""}' })
  t.match(entries.filter(({ event }) => event === 'control.failed'), [{ command: '{"type":"dance","step":0}' }, { command: /disconnect/ }])
})

t.test('a rejected call that the app did not await is a warning', async (t) => {
  const { logger, of, entries } = newLog()
  const { app, url } = await startApp(t, {}, { logger })
  const client = await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections
  const calls = [
    () => app.realtime.publish('', 1),
    () => app.realtime.broadcast(['a', ''], 1),
    () => app.realtime.broadcast('news' as never, 1),
    () => app.realtime.publish('a', 1, { idempotencyKey: null as never }),
    () => app.realtime.publish('a', 1, { tags: { n: 1 } as never }),
    () => app.realtime.publish('a', 1, { history: 'no' as never }),
    () => app.realtime.history(''),
    () => app.realtime.presence(''),
    () => app.realtime.presenceStats(''),
    () => app.realtime.sessions.get(''),
    () => app.realtime.sessions.set('', {}),
    () => app.realtime.sessions.set('ann', [] as never),
    () => app.realtime.sessions.delete(''),
    () => app.realtime.subscribe('', 'a'),
    () => connection!.subscribe(''),
    () => connection!.unsubscribe('')
  ]
  const failures = []
  for (const forgotten of calls) {
    entries.length = 0
    forgotten()
    failures.push(await of('call.failed'))
  }
  t.match(failures, Array(calls.length).fill({ level: 40, call: String, err: { code: /^FST_CRWS_INVALID_/ } }))
  client.socket.close()
  await until(() => !connection!.open, 'the client is gone')
  entries.length = 0
  await connection!.subscribe('a').catch(() => {})
  t.notOk(entries.some(({ event }) => event === 'call.failed'), 'a client that has gone is no news')
})

t.test('what a client does is never an error', async (t) => {
  const { logger, entries } = newLog()
  const { app, url } = await startApp(t, {
    maxPayload: 100,
    maxBufferedBytes: 1_000,
    heartbeat: { interval: 50, timeout: 100 },
    rateLimit: { messages: { max: 5, timeWindow: '1h' }, connections: { max: 30, timeWindow: '1h' } },
    authenticate: ({ headers }) => {
      if (headers['x-bad'] !== undefined) throw new Error('no')
      return {}
    },
    onMessage: (connection) => { while (connection.send('x'.repeat(100_000))); }
  }, { logger })
  await rejected(`${url}/ws`, { headers: { 'x-bad': '1' } })
  await rejected(`${url}/ws`, { headers: { origin: 'https://evil.example' } })
  await rejected(`${url}/nowhere`)
  await fetch(`${url.replace('ws', 'http')}/ws`)
  for (const bytes of [frame(TEXT, 'x', { masked: false }), frame(3, 'x'), frame(TEXT, Buffer.from([0xff])), frame(TEXT, 'x'.repeat(101)), frame(TEXT, 'go')]) {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/ws'))
    await raw.head()
    raw.socket.write(bytes)
    raw.socket.pause()
  }
  for (const bytes of ['garbage\r\n\r\n', upgradeRequest('/ws', { 'Sec-WebSocket-Key': undefined }), upgradeRequest('/%')]) {
    const raw = await openRaw(t, url)
    raw.socket.write(bytes)
    await raw.ended
  }
  const reset = await openRaw(t, url)
  reset.socket.write(upgradeRequest('/ws'))
  await reset.head()
  reset.socket.resetAndDestroy()
  await connect(t, `${url}/ws`, { autoPong: false })
  const flooder = await connect(t, `${url}/ws`)
  for (let i = 0; i < 50; i++) flooder.send('x')
  await until(() => [...app.realtime.connections].length === 0, 'all are gone', 30_000)
  t.strictSame(entries.filter(({ level }) => level >= 50), [])
  t.ok(entries.filter(({ event }) => event === 'connection.closed').length >= 7)
})

t.test('a bug in authenticate is an error with its stack, credentials that are not accepted are none', async (t) => {
  const { logger, of, ours } = newLog()
  const { url } = await startApp(t, {
    authenticate: ({ headers }) => {
      if (headers['x-bad'] !== undefined) throw new Error('wrong password')
      if (headers['x-number'] !== undefined) return { user: 42 as unknown as string }
      return { user: (undefined as never as { id: string }).id }
    }
  }, { logger })
  await rejected(`${url}/ws?token=secret`, { headers: { 'x-bad': '1' } })
  t.match(ours(), [{
    event: 'connection.rejected',
    level: 40,
    err: { message: 'wrong password', stack: /logs\.test\.ts/ },
    msg: 'WebSocket connection to /ws rejected (auth): wrong password'
  }])
  t.equal(ours().length, 1)
  t.equal((await rejected(`${url}/ws?token=secret`)).statusCode, 500)
  const entry = await of('authenticate.failed')
  t.match(entry, { level: 50, path: '/ws', err: { type: 'TypeError', stack: /logs\.test\.ts/ } })
  t.strictSame(ours().map(({ event }) => event), ['connection.rejected', 'authenticate.failed', 'connection.rejected'])
  t.equal((await rejected(`${url}/ws?token=secret`)).statusCode, 500)
  t.strictSame(ours().slice(3).map(({ event }) => event), ['connection.rejected'], 'once a minute, as any client may cause it')
  t.notOk(ours().some(({ event, err, msg }) => event === 'connection.rejected' && err !== undefined && !msg.includes('wrong password')), 'one stack')
  t.equal((await rejected(`${url}/ws`, { headers: { 'x-number': '1' } })).statusCode, 500)
  t.match(ours().slice(4)[0], { event: 'authenticate.failed', level: 50, err: { message: /user from authenticate: got 42/ } })
})

t.test('a database that is down is an error of the server, not of the client, wherever the error says so', async (t) => {
  const { logger, ours } = newLog()
  const refusedConnection = await new Promise<Error>(resolve => createConnection(1, '127.0.0.1').once('error', resolve))
  const thrown: Record<string, () => unknown> = {
    itself: () => refusedConnection,
    cause: () => new Error('cannot read the user', { cause: refusedConnection }),
    collected: () => new AggregateError([new Error('x'), refusedConnection], 'all hosts failed'),
    fetch: () => fetch('http://127.0.0.1:4').catch((error: unknown) => error),
    late: () => fetch('http://127.0.0.1:4', { signal: AbortSignal.abort() }).catch((error: unknown) => error),
    timeout: () => new DOMException('too late', 'TimeoutError')
  }
  const { url } = await startApp(t, {
    authenticate: async ({ headers }) => { throw await thrown[String(headers['x-case'])]!() }
  }, { logger })
  for (const name of Object.keys(thrown)) {
    const before = ours().length
    const { statusCode, headers, body } = await rejected(`${url}/ws`, { headers: { 'x-case': name } })
    t.equal(statusCode, 503, name)
    t.match(headers, { 'retry-after': /^[1-5]$/ })
    t.notMatch(body, /127|ECONN/)
    t.match(ours().slice(before), [
      { event: 'authenticate.failed', level: 50, path: '/ws', err: { stack: String } }, { event: 'connection.rejected', level: 40, error: 'auth_failed' }
    ], name)
  }
  const deliberate = Object.assign(new Error('gone', { cause: refusedConnection }), { statusCode: 401 })
  thrown.deliberate = () => deliberate
  t.match(await rejected(`${url}/ws`, { headers: { 'x-case': 'deliberate' } }), { statusCode: 401, body: /gone/ })
  t.notOk('err' in ours().at(-1)!, 'the app has said what it is')
})

t.test('an entry of a failure says which handler failed, and what it threw', async (t) => {
  const { logger, ours } = newLog()
  const failures = { onConnect: 'boom', onMessage: undefined, onDisconnect: null } as const
  const fail = (handler: keyof typeof failures) => async ({ user }: { user: string }) => { if (user === handler) throw failures[handler] }
  const { url } = await startApp(t, {
    authenticate: ({ headers }) => ({ user: String(headers['x-user']) }),
    onConnect: fail('onConnect'),
    onMessage: fail('onMessage'),
    onDisconnect: fail('onDisconnect')
  }, { logger })
  for (const handler of Object.keys(failures)) {
    const client = await connect(t, `${url}/ws`, { headers: { 'x-user': handler } })
    client.send('x')
    if (handler === 'onDisconnect') client.socket.close()
    await client.closed
  }
  const failed = () => ours().filter(({ event }) => event === 'connection.failed')
  await until(() => failed().length === 3, 'all have failed')
  t.strictSame(failed().map(({ handler, msg }) => [handler, msg]), [
    ['onConnect', 'onConnect failed: boom'],
    ['onMessage', 'onMessage failed: undefined was thrown'],
    ['onDisconnect', 'onDisconnect failed: null was thrown']
  ])
})

t.test('so it does for an SDK client, where a rule of the channel may have failed', async (t) => {
  const { logger, ours } = newLog()
  const fail = () => { throw new Error('boom') }
  const { url } = await startApp(t, {
    channels: { open: { subscribe: true }, ruled: { subscribe: fail, publish: fail } },
    onSubscribe: fail,
    onRpc: fail,
    onMessage: fail
  }, { logger })
  const client = await sdkClient(t, url, 'json').connected()
  const refused = { code: 100 }
  for (const channel of ['open:1', 'ruled:1']) client.subscribe(channel)
  await t.rejects(client.publish('ruled:1', 1), refused)
  await t.rejects(client.rpc('x', {}), refused)
  await client.client.send({ x: 1 })
  const handlers = () => new Set(ours().filter(({ event }) => event === 'connection.failed').map(({ handler }) => handler))
  await until(() => handlers().size === 5, 'all have failed')
  t.strictSame([...handlers()].toSorted(), ["channels['ruled'].publish", "channels['ruled'].subscribe or onSubscribe", 'onMessage', 'onRpc', 'onSubscribe'])
  const { url: other } = await startApp(t, { onConnect: fail }, { logger })
  sdkClient(t, other, 'json')
  await until(() => handlers().has('onConnect'), 'onConnect has failed')
})

t.test('entries of a connection say who, and how it ended', async (t) => {
  const { logger, of } = newLog()
  const { app, url } = await startApp(t, { authenticate: ({ headers }) => ({ user: String(headers['x-user'] ?? '') }) }, { logger })
  await connect(t, `${url}/ws`, { headers: { 'x-user': '42' } })
  const anonymous = await connect(t, `${url}/ws`)
  anonymous.socket.close()
  t.equal((await of('connection.opened', { user: '42' })).msg, 'WebSocket connection of user 42 opened')
  t.equal((await of('connection.closed', { user: '' })).msg, 'WebSocket connection of an anonymous client closed: client (1005)')
  await app.close()
  t.equal((await of('connection.closed', { user: '42' })).msg, 'WebSocket connection of user 42 closed: drain (1001, shutdown)')
})

t.test('logging false writes no entry', async (t) => {
  const { logger, ours } = newLog()
  const { app, url } = await startApp(t, { logging: false, onMessage: () => { throw new Error('boom') } }, { logger })
  const client = await connect(t, `${url}/ws`)
  client.send('x')
  t.equal((await client.closed).code, 1011)
  await rejected(`${url}/ws`, { headers: { origin: 'https://evil.example' } })
  await app.close()
  t.strictSame(ours(), [])
})

t.test('messages are logged if the app asks for it, through any logger', async (t) => {
  const { logger, of } = newLog()
  const { url } = await startApp(t, {
    logging: { messages: { ratio: 1 } },
    onMessage: (connection, data) => connection.send(data)
  }, { logger })
  const client = await connect(t, `${url}/ws`)
  client.send('hi')
  await client.next()
  const received = await of('message.received')
  t.strictSame(fieldsOf(received), { event: 'message.received', connection: received.connection, user: '', protocol: 'plain', bytes: 2, binary: false })
  t.match(await of('message.sent'), { level: 30, bytes: 2 })
})

t.test('every event has the level of the list', async (t) => {
  t.strictSame([...new Set(Object.values(logEvents))].sort(), Object.keys(levels).sort())
})
