import { SignJWT } from 'jose'
import { once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { ClientError, cloudLogging } from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { events } from '../../helpers/event-source.ts'
import { collectLog } from '../../helpers/log.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { httpOf } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

const history = { size: 2_000, ttl: '10m' }
const options: Options = { fallback: true, channels: { '': { subscribe: true, history }, live: { subscribe: true } } }
const quick = { interval: 100, timeout: 50 }

t.test('a connection token says who the client is, and for how long', async (t) => {
  const secret = secretOf('uni_sse')
  const sign = (claims: object, exp = '1m') => new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' }).setExpirationTime(exp).sign(Buffer.from(secret))
  const { app, url } = await startApp(t, { ...options, token: { secret }, heartbeat: quick })
  const token = await sign({ sub: '42', info: { name: 'Ada' }, channels: ['granted'], meta: { a: 1 } })
  const inQuery = await events(t, url, ['#42'], { query: `&token=${token}` })
  const inHeader = await events(t, url, ['#42'], { headers: { authorization: `Bearer ${token}` } })
  for (const client of [inQuery, inHeader]) t.match((await client.event(0)).data.channels, { granted: {}, '#42': {} })
  t.strictSame(connectionsOf(app).map(({ user, info, meta }) => [user, info, meta]), Array(2).fill(['42', { name: 'Ada' }, { a: 1 }]))
  const ofChannel = await sign({ sub: '42', channel: 'news' })
  for (const [query, message] of [
    ['', 'send a connection token'], ['&token=a.b.c', 'invalid token'], [`&token=${await sign({}, '-1m')}`, 'token expired'],
    [`&token=${ofChannel}`, 'invalid token']
  ]) t.match(await events(t, url, ['news'], { query: query! }), { status: 401, body: { code: 'FST_CRWS_UNAUTHORIZED', message } })
  const short = await events(t, url, [], { query: `&token=${await sign({ sub: '1' }, '1s')}` })
  await until(() => short.ended, 'the end')
  t.match(short.events.at(-1), { type: 'disconnect', data: { code: 3005 } })
})

t.test('a token goes with authenticate, which speaks for a client that has none', async (t) => {
  const secret = secretOf('uni_sse')
  const { app, url } = await startApp(t, { ...options, token: { secret }, authenticate: () => ({ user: 'cookie', meta: 'kept' }) })
  const token = await new SignJWT({ sub: 'token' }).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))
  await events(t, url, [])
  await events(t, url, [], { query: `&token=${token}` })
  t.strictSame(connectionsOf(app).map(({ user, meta }) => [user, meta]), [['cookie', 'kept'], ['token', 'kept']])
  const twice = await events(t, url, [], { query: `&token=${token}&token=${token}` })
  t.match(twice, { status: 400, body: { message: /token must be given once/ } }, 'it is not somebody without a token')
})

t.test('no key for a token is no fault of the client', async (t) => {
  const { url } = await startApp(t, { ...options, token: { jwksUrl: 'http://127.0.0.1:1/keys' } })
  const token = `${Buffer.from('{"alg":"RS256","kid":"a"}').toString('base64url')}.e30.YQ`
  t.match(await events(t, url, [], { query: `&token=${token}` }), { status: 503 })
})

t.test('authenticate may refuse with a close code, which is a status here', async (t) => {
  const { url } = await startApp(t, { ...options, authenticate: ({ headers }) => { throw new ClientError(Number(headers.code), 'no') } })
  t.match(await events(t, url, [], { headers: { code: '4501' } }), { status: 403, body: { code: 'FST_CRWS_CONNECTION_REFUSED' } })
  t.match(await events(t, url, [], { headers: { code: '4001' } }), { status: 503 })
})

t.test('what onSubscribe grants: a snapshot, what came after it, and an end', async (t) => {
  const { app, url } = await startApp(t, {
    ...options,
    heartbeat: quick,
    onSubscribe: async (_connection, channel) => {
      if (channel === 'short') return { expiresAt: Math.ceil(Date.now() / 1_000) + 1 }
      if (channel !== 'board') return
      const { offset, epoch } = await app.realtime.history('board', { limit: 0 })
      await app.realtime.publish('board', 'after')
      return { data: { score: 1 }, since: { offset, epoch } }
    }
  })
  const client = await events(t, url, ['board', 'short', 'live:a'])
  await client.event(2)
  t.match(client.events[0]!.data.channels.board, { data: { score: 1 }, offset: 0 })
  t.strictSame(client.data(), ['after'])
  t.equal(client.events[1]!.lastEventId.split('~').length, 3)
  t.match(client.events[2], { data: { channel: 'short', unsubscribed: { code: 2501 } } })
  t.equal(client.lastEventId.split('~').length, 2)
  t.notOk(connectionsOf(app)[0]!.channels.has('short'))
})

t.test('a publication that is not for a client is left out, and its ids pass it', async (t) => {
  const { app, url } = await startApp(t, {
    ...options, onConnect: async ({ id }) => { await app.realtime.publish('news', 'not for you', { except: id }) }
  })
  await app.realtime.publish('news', 'old')
  const first = await events(t, url, ['news'])
  const { lastEventId } = await first.event(0)
  first.close()
  const second = await events(t, url, ['news'], { lastEventId: lastEventId.replace(/\.[0-9a-z]+$/, '.0') })
  await second.event(1)
  await until(() => second.lastEventId.endsWith('.3'), 'the position after what it did not get')
  t.strictSame(second.data(), ['old', 'not for you'], 'that of another connection is for this one')
  await app.realtime.publish('news', 'mine', { except: connectionsOf(app).at(-1)!.id })
  await app.realtime.publish('news', 'next')
  await second.event(3)
  t.strictSame(second.data().slice(2), ['next'])
  t.match(second.lastEventId, /\.5$/)
})

t.test('a client comes back when its channel has lost its history, and is told', async (t) => {
  const redis = await startRedis(t)
  const { app, url } = await startApp(t, { ...options, redis: redis.url, keyPrefix: randomPrefix() })
  const client = await events(t, url, ['news'])
  await client.event(0)
  await app.realtime.publish('news', 1)
  await client.event(1)
  await redis.restart()
  await until(() => app.realtime.publish('news', 2), 'Redis')
  await until(() => client.ended, 'the end')
  t.match(client.events.at(-1), { type: 'disconnect', data: { code: 3010, reason: 'insufficient state', reconnect: true } })
  const again = await events(t, url, ['news'], { lastEventId: client.lastEventId })
  await again.event(1)
  t.match(again.events[1]!.data, { channel: 'news', recovered: false, offset: 1 })
})

t.test('Redis that is away is a temporary refusal', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog(cloudLogging())
  const { url } = await startApp(t, { ...options, redis: redis.url, keyPrefix: randomPrefix() }, { logger })
  await redis.kill()
  t.match(await events(t, url, ['news']), { status: 503, body: { code: 'FST_CRWS_CHANNEL_REFUSED', message: /100/ } })
  t.strictSame(entries.filter(({ severity }) => severity === 'ERROR').map(({ event }) => event).filter(event => event === 'handler.failed'), [])
})

t.test('the log says at level debug why a channel was refused', async (t) => {
  const { logger, entries } = collectLog({ level: 'debug' })
  const { url } = await startApp(t, options, { logger })
  await events(t, url, ['x:1'])
  t.match(entries.filter(({ event }) => event === 'command.refused'), [{ command: 'subscribe', channel: 'x:1', code: 102 }])
})

t.test('a client recovers more than its socket takes at once, as fast as it reads', async (t) => {
  const { app, url } = await startApp(t, { ...options, maxBufferedBytes: 200_000 })
  const first = await events(t, url, ['news', 'other'])
  const { lastEventId } = await first.event(0)
  first.close()
  for (let i = 0; i < 1_500; i++) await app.realtime.publish('news', `${i} ${'x'.repeat(20)}`)
  const client = await events(t, url, ['news', 'other'], { lastEventId })
  await until(() => connectionsOf(app).length === 1, 'the connection')
  connectionsOf(app)[0]!.send('behind it')
  await client.event(1_501)
  t.strictSame(client.data().map(text => Number.parseInt(String(text))), Array.from({ length: 1_500 }, (_, i) => i))
  t.match(client.events.at(-1), { type: 'send', data: { data: 'behind it' } })
  t.ok(client.text.length > 200_000, `${client.text.length} bytes with ids`)
  for (let i = 0; i < 2; i++) await app.realtime.publish('other', 'x'.repeat(40_000))
  await client.event(1_503)
  client.close()
  const both = await events(t, url, ['news', 'other'], { lastEventId })
  await until(() => both.lastEventId === client.lastEventId, 'the end')
  t.equal(both.events.filter(({ data }) => data.recovered === false).length, 1, 'all channels together have one limit')
})

t.test('a client that does not read is dropped, and comes back', async (t) => {
  const { app, url } = await startApp(t, { ...options, maxBufferedBytes: 100_000, heartbeat: quick })
  const asked = request(`${httpOf(url)}/connection/uni_sse?channel=news`, { agent: false }).on('error', () => {}).end()
  t.teardown(() => asked.destroy())
  const [response] = await once(asked, 'response') as [IncomingMessage]
  response.pause()
  await until(async () => {
    await app.realtime.publish('news', 'x'.repeat(50_000))
    return connectionsOf(app).every(({ open }) => !open)
  }, 'the end')
  await until(() => connectionsOf(app).length === 0, 'it is cut off')
})

t.test('a client that goes while onConnect runs leaves nothing behind', async (t) => {
  let goOn = () => {}
  const { app, url } = await startApp(t, { ...options, onConnect: () => new Promise<void>(resolve => { goOn = resolve }) })
  const asked = request(`${httpOf(url)}/connection/uni_sse?channel=news`, { agent: false }).on('error', () => {}).end()
  await until(() => connectionsOf(app).length === 1, 'the connection')
  asked.destroy()
  await until(() => connectionsOf(app).length === 0, 'its end')
  goOn()
})
