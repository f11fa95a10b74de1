import { createError } from '@fastify/error'
import t from 'tap'
import type { Test } from 'tap'
import { ClientError } from '../../index.ts'
import type { Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { openRaw, upgradeRequest } from '../helpers/raw-socket.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'
import type { Refusal } from '../helpers/ws-client.ts'

const outcome = (t: Test, url: string, headers: Record<string, string> = {}): Promise<'open' | Refusal> =>
  connect(t, url, { headers }).then(() => 'open' as const, () => rejected(url, { headers }))

/** Settles each as open or with the status code that refused it. */
async function statuses (t: Test, url: string, headers: Array<Record<string, string>>): Promise<Array<'open' | number>> {
  return Promise.all(headers.map(async (one) => {
    try {
      await connect(t, url, { headers: one })
      return 'open'
    } catch (error) {
      return Number(/\d{3}$/.exec((error as Error).message)?.[0])
    }
  }))
}

for (const [name, authenticate] of [
  ['without authenticate', undefined],
  ['with an authenticate that ends for all at once', (() => {
    let arrived = 0
    let release = () => {}
    const all = new Promise<void>(resolve => { release = resolve })
    return async () => {
      if (++arrived === 10) release() // the others find all places held
      await all
      return {}
    }
  })()],
  ['with an authenticate that is synchronous', () => ({ user: 'ann' })]
] as Array<[string, Options['authenticate']]>) {
  t.test(`maxConnections is exact under many upgrades at once, ${name}`, async (t) => {
    const { app, url } = await startApp(t, { maxConnections: 10, authenticate })
    const results = await statuses(t, `${url}/ws`, Array(60).fill({}))
    t.equal(results.filter(result => result === 'open').length, 10)
    t.equal(results.filter(result => result === 503).length, 50)
    t.equal([...app.realtime.connections].length, 10)
  })
}

t.test('a full instance sends Retry-After, answers its probes, and has room when a client leaves', async (t) => {
  const { app, url } = await startApp(t, { maxConnections: 2 })
  const [first] = await Promise.all([connect(t, `${url}/ws`), connect(t, `${url}/ws`)])
  const refusals = []
  for (let i = 0; i < 40; i++) refusals.push(await rejected(`${url}/ws`))
  t.match(refusals.map(({ statusCode, body }) => ({ statusCode, ...JSON.parse(body) })), Array(40).fill({
    statusCode: 503, code: 'FST_CRWS_CAPACITY', error: 'Service Unavailable', message: /2 connections/
  }))
  const after = refusals.map(({ headers }) => String(headers['retry-after']))
  t.strictSame(after.filter(seconds => !/^[1-5]$/.test(seconds)), [], 'Retry-After in seconds')
  t.ok(new Set(after).size > 1, 'not the same for all')
  const health = await fetch(`${url.replace('ws', 'http')}/health`)
  t.equal(health.status, 200)
  t.match(await health.json(), { status: 'ok', connections: 2 })
  t.match((await app.inject('/ready')).json(), { reasons: ['full'] })
  first.socket.close()
  await until(() => [...app.realtime.connections].length === 1, 'room for one')
  await connect(t, `${url}/ws`)
})

t.test('by default only pages of the same host may connect', async (t) => {
  const { url } = await startApp(t)
  const { host, port } = new URL(url)
  const cases: Array<[Record<string, string>, 'open' | number]> = [
    [{}, 'open'],
    [{ origin: `http://${host}` }, 'open'],
    [{ origin: `https://${host}` }, 'open'],
    [{ origin: 'https://chat.example.com', host: 'chat.example.com' }, 'open'],
    [{ origin: 'https://chat.example.com', host: 'chat.example.com:443' }, 'open'],
    [{ origin: 'http://chat.example.com', host: 'chat.example.com:80' }, 'open'],
    [{ origin: 'https://chat.example.com', host: 'CHAT.example.com' }, 'open'],
    [{ origin: 'https://chat.example.com', host: 'chat.example.com:8443' }, 403],
    [{ origin: 'https://chat.example.com.evil.example', host: 'chat.example.com' }, 403],
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: `http://localhost:${port}` }, 403],
    [{ origin: 'null' }, 403],
    [{ origin: '' }, 403],
    [{ origin: 'file://' }, 403],
    [{ origin: 'not a url' }, 403]
  ]
  const results = await statuses(t, `${url}/ws`, cases.map(([headers]) => headers))
  t.strictSame(cases.map(([headers], i) => [headers, results[i]]), cases)
  const { body } = await rejected(`${url}/ws`, { headers: { origin: 'https://evil.example' } })
  t.match(JSON.parse(body), { code: 'FST_CRWS_ORIGIN', message: /https:\/\/evil\.example.*allowedOrigins/ })
})

t.test('the host behind a proxy counts when trustProxy says so', async (t) => {
  const { url } = await startApp(t, {}, { trustProxy: true })
  const headers = { origin: 'https://chat.example.com', 'x-forwarded-host': 'chat.example.com' }
  t.strictSame(await statuses(t, `${url}/ws`, [headers]), ['open'])
  const untrusting = await startApp(t)
  t.strictSame(await statuses(t, `${untrusting.url}/ws`, [headers]), [403])
})

t.test('allowedOrigins takes strings, regular expressions and everything', async (t) => {
  const any = await startApp(t, { allowedOrigins: '*' })
  t.strictSame(await statuses(t, `${any.url}/ws`, [{ origin: 'https://evil.example' }, { origin: 'null' }]), ['open', 'open'])
  const none = await startApp(t, { allowedOrigins: [] })
  t.strictSame(await statuses(t, `${none.url}/ws`, [{ origin: 'https://a.example' }, {}]), [403, 'open'])
  const some = await startApp(t, { allowedOrigins: ['https://A.example', /^https:\/\/[a-z]+\.b\.example$/g] })
  const cases: Array<[string, 'open' | number]> = [
    ['https://a.example', 'open'], ['https://A.EXAMPLE', 'open'], ['http://a.example', 403], ['https://a.example:8443', 403],
    ['https://x.b.example', 'open'], ['https://y.b.example', 'open'], ['https://b.example', 403], ['https://x.b.example.evil.example', 403]
  ]
  const results = await statuses(t, `${some.url}/ws`, cases.map(([origin]) => ({ origin })))
  t.strictSame(cases.map(([origin], i) => [origin, results[i]]), cases)
})

t.test('an authenticate that throws refuses the upgrade and tells no secrets', async (t) => {
  const PaymentError = createError('APP_PAYMENT', 'pay first', 402)
  const { app, url } = await startApp(t, {
    authenticate: async (request) => {
      switch (request.headers['x-case']) {
        case 'error': throw new Error('the database password is 1234')
        case 'status': throw Object.assign(new Error('not you'), { statusCode: 403 })
        case 'coded': throw new PaymentError()
        case 'nothing': throw undefined // eslint-disable-line no-throw-literal
        case 'text': throw 'text' // eslint-disable-line no-throw-literal
        case 'impossible': throw Object.assign(new Error('the database password is 1234'), { statusCode: 99 })
        case 'ok': throw Object.assign(new Error('the database password is 1234'), { statusCode: 200 })
        case 'down': throw Object.assign(new Error('connect ECONNREFUSED 10.0.0.3:5432'), { statusCode: 503 })
        case 'hidden': throw Object.assign(new Error('account 17 is locked'), { statusCode: 403, expose: false })
        case 'client 403': throw new ClientError(403, 'the trial is over')
        case 'client 1001': throw new ClientError(1001, 'the trial is over')
        case 'bug': return { user: (undefined as never as { id: string }).id }
        case 'bad url': return { user: new URL('not a url').host }
        default: return JSON.parse(request.headers['x-case'] as string)
      }
    }
  })
  const refusal = (what: string) => rejected(`${url}/ws`, { headers: { 'x-case': what } })
  const secret = await Promise.all(['error', 'nothing', 'text'].map(refusal))
  t.strictSame(secret.map(({ statusCode }) => statusCode), [401, 401, 401])
  t.strictSame(secret.map(({ body }) => JSON.parse(body)), Array(3).fill({
    statusCode: 401, code: 'FST_CRWS_UNAUTHORIZED', error: 'Unauthorized', message: 'Not authenticated: the credentials were not accepted'
  }))
  t.match(await refusal('status'), { statusCode: 403, body: /not you/ })
  const failed = await Promise.all(['impossible', 'ok', 'bug', 'down'].map(refusal))
  const answered = failed.map(({ body }) => JSON.parse(body)).map(({ statusCode, code, message }) => [statusCode, code, message])
  t.strictSame(answered, [500, 500, 500, 503].map(
    statusCode => [statusCode, 'FST_CRWS_AUTHENTICATE_FAILED', 'The credentials could not be checked: the server has failed, and its log says why. Try again later']
  ))
  t.match(failed.at(-1)!.headers, { 'retry-after': /^[1-5]$/ })
  t.match(await refusal('hidden'), { statusCode: 403, body: /the credentials were not accepted/ })
  t.match(await refusal('client 403'), { statusCode: 403, body: /the trial is over/ })
  t.match(await refusal('client 1001'), { statusCode: 401, body: /the trial is over/ }, 'this code is none of HTTP')
  t.match(await refusal('bad url'), { statusCode: 401, body: /the credentials were not accepted/ }, 'about what the client sent')
  t.match(await refusal('coded'), { statusCode: 402, body: /pay first/ })
  const invalid = [
    '5', 'null', '"ann"', '{"user":5}', '{"expiresAt":"soon"}', '{"expiresAt":null}', '{"channels":5}', '{"channels":"room"}',
    '{"channels":["room",5]}', '{"channels":null}'
  ]
  const answers = await Promise.all(invalid.map(async identity => ({ identity, statusCode: (await refusal(identity)).statusCode })))
  t.strictSame(answers.filter(({ statusCode }) => statusCode !== 500), [], 'an answer that is no identity is a bug of the app')
  t.equal([...app.realtime.connections].length, 0)
  t.equal(await outcome(t, `${url}/ws`, { 'x-case': '{}' }), 'open')
  t.equal(await outcome(t, `${url}/ws`, { 'x-case': '{"user":"ann","expiresAt":99999999999}' }), 'open')
})

t.test('an authenticate that needs a Redis that is away answers 503 and does not tell where Redis is', async (t) => {
  const redis = await startRedis(t)
  const { app, url } = await startApp(t, {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    authenticate: async () => ({ user: String((await app.realtime.sessions.get('ann'))?.name) })
  })
  await redis.kill()
  await until(async () => (await app.inject('/ready')).json().redis === 'down', 'the instance knows that Redis is away')
  const { statusCode, body } = await rejected(`${url}/ws`)
  t.equal(statusCode, 503)
  t.equal(JSON.parse(body).message, 'The credentials could not be checked: the server has failed, and its log says why. Try again later')
})

t.test('an identity with an info that JSON can not carry refuses the upgrade', async (t) => {
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  let info: unknown
  const { app, url } = await startApp(t, { authenticate: () => ({ user: 'ann', info }) })
  for (info of [{ id: 1n }, cycle, () => {}]) {
    t.match(await rejected(`${url}/ws`), { statusCode: 500, body: /FST_CRWS_AUTHENTICATE_FAILED.*could not be checked/ })
  }
  t.equal([...app.realtime.connections].length, 0)
  info = { name: 'Ann' }
  t.equal(await outcome(t, `${url}/ws`), 'open')
})

t.test('an upgrade whose client has gone during authenticate leaves no connection', async (t) => {
  let release = () => {}
  const held = new Promise<void>(resolve => { release = resolve })
  let asked = 0
  const { app, url } = await startApp(t, {
    authenticate: async () => {
      asked++
      await held
      return {}
    }
  })
  const impatient = rejected(`${url}/ws`, { handshakeTimeout: 50 })
  await t.rejects(impatient)
  t.equal(asked, 1)
  release()
  await connect(t, `${url}/ws`)
  await until(() => [...app.realtime.connections].length === 1, 'only the one that waited')
})

t.test('an authenticate that does not end in ten seconds answers 503, and its place is free again', async (t) => {
  let settle = () => {}
  const { app, url } = await startApp(t, {
    maxConnections: 1,
    authenticate: ({ headers }) => headers['x-hangs'] === undefined ? {} : new Promise((_resolve, reject) => { settle = () => reject(new Error('late')) })
  })
  const hanging = rejected(`${url}/ws`, { headers: { 'x-hangs': '1' } })
  await until(async () => (await app.inject('/ready')).statusCode === 503, 'it holds the place')
  t.match((await app.inject('/ready')).json(), { reasons: ['full'] })
  t.match(await rejected(`${url}/ws`), { statusCode: 503, body: /FST_CRWS_CAPACITY/ })
  t.match(await hanging, { statusCode: 503, body: /FST_CRWS_AUTHENTICATE_TIMEOUT.*within 10 seconds/, headers: { 'retry-after': /^[1-5]$/ } })
  settle() // changes nothing
  await connect(t, `${url}/ws`)
})

t.test('an empty Sec-WebSocket-Protocol, as the Python SDK sends it, is none', async (t) => {
  const { url } = await startApp(t)
  for (const path of ['/ws', '/connection/websocket']) {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest(path, { 'Sec-WebSocket-Protocol': '' }))
    const head = await raw.head()
    t.match(head, /^HTTP\/1\.1 101 /)
    t.notMatch(head, /Sec-WebSocket-Protocol/i)
  }
})

t.test('another version of the protocol gets 426 and the version to use', async (t) => {
  const { url } = await startApp(t)
  for (const version of ['8', '7', '0', '14', '13, 8', 'x', undefined]) {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/ws', { 'Sec-WebSocket-Version': version }))
    const answer = (await raw.ended).toString()
    t.match(answer, /^HTTP\/1\.1 426 /)
    t.match(answer, /\r\nsec-websocket-version: 13\r\n/i)
    t.match(answer, /FST_CRWS_UPGRADE_REQUIRED.*version 13/)
  }
})

t.test('a page without TLS may not connect to the same host with TLS', async (t) => {
  const { url } = await startApp(t)
  const host = 'chat.example.com'
  const cases: Array<[origin: string, proto: string | undefined, 'open' | number]> = [
    ['https://chat.example.com', 'https', 'open'], ['https://chat.example.com', 'wss', 'open'], ['http://chat.example.com', 'http', 'open'],
    ['http://chat.example.com', undefined, 'open'], ['https://chat.example.com', 'http', 'open'], ['https://chat.example.com', 'https,http', 'open'],
    ['http://chat.example.com', 'https', 403], ['http://chat.example.com', 'HTTPS', 403], ['http://chat.example.com', 'wss', 403],
    ['http://chat.example.com', 'https, http', 403]
  ]
  const results = await statuses(t, `${url}/ws`, cases.map(([origin, proto]) => ({ host, origin, ...(proto !== undefined && { 'x-forwarded-proto': proto }) })))
  t.strictSame(cases.map(([origin, proto], i) => [origin, proto, results[i]]), cases)
})

const limit = (max: number): Options => ({ rateLimit: { connections: { max, timeWindow: '1m' } } })

t.test('connections are limited per client address', async (t) => {
  const { url } = await startApp(t, limit(3))
  t.strictSame((await statuses(t, `${url}/ws`, Array(5).fill({}))).sort(), [429, 429, 'open', 'open', 'open'])
  const { statusCode, headers, body } = await rejected(`${url}/ws`)
  t.equal(statusCode, 429)
  t.match(headers['retry-after'], /^\d+$/)
  t.match(JSON.parse(body), { statusCode: 429, code: 'FST_CRWS_RATE_LIMIT', message: /at most 3/ })
  t.equal((await fetch(`${url.replace('ws', 'http')}/health`)).status, 200)
})

t.test('without a limit no upgrade is rejected', async (t) => {
  const { app, url } = await startApp(t, { rateLimit: false })
  t.notOk(app.hasDecorator('rateLimit'))
  t.strictSame(await statuses(t, `${url}/ws`, Array(20).fill({})), Array(20).fill('open'))
})

t.test('on Cloud Run the address is the last one of X-Forwarded-For, which a client can not forge', async (t) => {
  process.env.K_SERVICE = 'chat'
  t.teardown(() => { delete process.env.K_SERVICE })
  const { url } = await startApp(t, limit(1))
  const from = (forwarded: string) => statuses(t, `${url}/ws`, [{ 'x-forwarded-for': forwarded }])
  t.strictSame(await from('203.0.113.1'), ['open'])
  t.strictSame(await from('203.0.113.2'), ['open'], 'another client')
  t.strictSame(await from('203.0.113.1'), [429])
  t.strictSame(await from('198.51.100.7, 203.0.113.1'), [429], 'what the client wrote before it does not help')
  t.strictSame(await from('203.0.113.1, 203.0.113.3'), ['open'])
  t.strictSame(await statuses(t, `${url}/ws`, [{}, {}]).then(results => results.sort()), [429, 'open'], 'without the header the peer counts')
  t.strictSame(await from(' , '), [429], 'an empty one is none')

  const trusting = await startApp(t, limit(1), { trustProxy: true })
  t.strictSame(await statuses(t, `${trusting.url}/ws`, [{ 'x-forwarded-for': '203.0.113.1' }]), ['open'])
  t.strictSame(await statuses(t, `${trusting.url}/ws`, [{ 'x-forwarded-for': '203.0.113.1' }]), [429], "the host's trustProxy decides")
})

t.test('behind a load balancer the address is the one before the last, whatever stands before it', async (t) => {
  process.env.K_SERVICE = 'chat'
  t.teardown(() => { delete process.env.K_SERVICE })
  const { url } = await startApp(t, { ...limit(1), trustedProxies: 1 })
  const from = (forwarded: string) => statuses(t, `${url}/ws`, [{ 'x-forwarded-for': forwarded }])
  for (let i = 1; i <= 5; i++) t.strictSame(await from(`203.0.113.${i}, 198.51.100.1`), ['open'], 'each client is one address')
  t.strictSame(await from('203.0.113.1, 198.51.100.1'), [429])
  t.strictSame(await from('192.0.2.1, 203.0.113.1, 198.51.100.1'), [429], 'what the client wrote before it does not help')
})

t.test('elsewhere X-Forwarded-For is not trusted', async (t) => {
  const { url } = await startApp(t, limit(1))
  t.strictSame(await statuses(t, `${url}/ws`, [{ 'x-forwarded-for': '203.0.113.1' }]), ['open'])
  t.strictSame(await statuses(t, `${url}/ws`, [{ 'x-forwarded-for': '203.0.113.2' }]), [429])
})

t.test('instances share the count through Redis; while Redis is down no upgrade is rejected', async (t) => {
  const redis = await startRedis(t)
  const options: Options = { redis: redis.url, keyPrefix: randomPrefix(), ...limit(4) }
  const [a, b] = await Promise.all([startApp(t, options), startApp(t, options)])
  t.strictSame(await statuses(t, `${a.url}/ws`, Array(2).fill({})), ['open', 'open'])
  t.strictSame(await statuses(t, `${b.url}/ws`, Array(2).fill({})), ['open', 'open'])
  t.strictSame(await statuses(t, `${a.url}/ws`, [{}]), [429])
  t.strictSame(await statuses(t, `${b.url}/ws`, [{}]), [429])
  await redis.kill()
  await until(async () => (await a.app.inject('/ready')).json().redis === 'down', 'the instance knows that Redis is away')
  t.strictSame(await statuses(t, `${a.url}/ws`, Array(8).fill({})), Array(8).fill('open'))
})

t.test('during a drain no upgrade is accepted, nor one that was already authenticating', async (t) => {
  let release = () => {}
  const held = new Promise<void>(resolve => { release = resolve })
  let asked = 0
  const { app, url } = await startApp(t, {
    authenticate: async ({ headers }) => {
      if (headers['x-slow'] === undefined) return {}
      asked++
      await held
      return {}
    }
  })
  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause() // keeps the drain going
  const waiting = rejected(`${url}/ws`, { headers: { 'x-slow': '1' } })
  await until(() => asked === 1, 'authenticate was asked')
  const closed = app.close()
  await until(() => [...app.realtime.connections].every(({ open }) => !open), 'the drain has begun')
  release()
  t.match(await waiting, { statusCode: 503, body: /FST_CRWS_DRAINING/, headers: { 'retry-after': /^[1-5]$/ } })
  await closed
})

t.test('what authenticate returns is checked as options are', async (t) => {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { authenticate: ({ headers }) => JSON.parse(String(headers['x-identity'])) }, { logger })
  for (const [identity, reason] of [
    [{ userId: 'ann' }, /result of authenticate: got the unknown field "userId" \(did you mean `user`\?\), expected an object with user, info, channels, expiresAt, meta/],
    [{ user: 'ann', inof: {} }, /"inof" \(did you mean `info`\?\)/],
    [{ user: 'ann', expiresAt: Date.now() }, /expiresAt from authenticate: got \d{13}, which looks like milliseconds, expected a Unix time in seconds: divide it by 1000/]
  ] as const) {
    const headers = { 'x-identity': JSON.stringify(identity) }
    t.ok((await rejected(`${url}/ws`, { headers })).statusCode >= 400)
    t.match(entries.findLast(({ event }) => event === 'connection.rejected'), { msg: reason })
  }
  t.equal([...app.realtime.connections].length, 0)
  await connect(t, `${url}/ws`, { headers: { 'x-identity': '{"user":"ann","info":1,"channels":[],"expiresAt":99999999999,"meta":1}' } })
})
