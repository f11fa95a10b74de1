import type { ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { gzipSync } from 'node:zlib'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { JWTPayload } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { startKeyServer } from '../helpers/key-server.ts'
import { collectLog } from '../helpers/log.ts'
import type { Entry } from '../helpers/log.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

t.setTimeout(300_000)

const ERROR = 50
const FETCH_INTERVAL = 5_000
const MEGABYTE = 1_048_576
/** What a sender may have handed to the sockets of both ends before it learns that nobody reads. */
const IN_SOCKETS = 32 * MEGABYTE
const secret = secretOf('of the tests')
const temporary = { error: { code: 100, message: 'internal server error', temporary: true } }
const badRequest = { error: { code: 107, message: 'bad request' } }

const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true })
const jwk = { ...await exportJWK(publicKey), kid: 'a', alg: 'RS256', use: 'sig' }
const signed = (sub: string, kid = 'a') => new SignJWT({ sub }).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey)
const hmac = (claims: JWTPayload) => new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))

async function start (t: Test, options: Options): Promise<{ url: string, entries: Entry[], app: Awaited<ReturnType<typeof startApp>>['app'] }> {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, options, { logger })
  return { app, url: `${url}/connection/websocket`, entries }
}

const errorsIn = (entries: Entry[]) => entries.filter(({ level }) => level >= ERROR)
const eventsIn = (entries: Entry[], event: string) => entries.filter(entry => entry.event === event)

/** Sends one command of the JSON encoding and returns the reply without its id. */
async function call (client: Client, command: object | string): Promise<any> {
  client.send(typeof command === 'string' ? command : JSON.stringify({ id: 1, ...command }))
  const { id, ...reply } = JSON.parse(String(await client.next(30_000)))
  return reply
}

async function callConnect (t: Test, url: string, token: string): Promise<any> {
  return call(await connect(t, url), { connect: { token } })
}

async function connected (t: Test, url: string, token = ''): Promise<Client> {
  const client = await connect(t, url)
  t.match(await call(client, { connect: { ...token !== '' && { token } } }), { connect: { client: String } })
  return client
}

t.test('while the key server fails, tokens cost one fetch in five seconds and one log entry in all', async (t) => {
  const server = await startKeyServer(t)
  server.keys = [jwk]
  server.status = 500
  const { url, entries } = await start(t, { token: { jwksUrl: `${server.url}?key=hush` } })
  const startedAt = performance.now()
  for (let i = 0; i < 30; i++) t.strictSame(await callConnect(t, url, await signed('ada', `key ${i}`)), temporary)
  t.ok(server.fetched <= 1 + (performance.now() - startedAt) / FETCH_INTERVAL, `${server.fetched} fetches`)
  const failed = eventsIn(entries, 'keys.failed')
  t.match(failed, [{ level: ERROR, url: server.url, reason: 'it answers 500' }])
  t.strictSame(errorsIn(entries), failed, 'and no other error')
  t.notMatch(JSON.stringify(failed), /hush/)

  server.status = 200
  await until(async () => (await callConnect(t, url, await signed('ada'))).connect, 'it is asked again', 30_000)
  t.match(eventsIn(entries, 'keys.restored'), [{ level: 30, url: server.url }])
  const { fetched } = server
  server.status = 500
  t.match(await callConnect(t, url, await signed('ada')), { connect: {} }, 'a key that is known needs no fetch')
  t.equal(server.fetched, fetched)
  t.equal(eventsIn(entries, 'keys.failed').length, 1)
})

t.test('of the answer of the key server no more than 1 MB is read', async (t) => {
  let sent = 0
  const endless = (response: ServerResponse) => pipeline(function * () {
    for (const chunk = Buffer.alloc(65_536, ' '); ; sent += chunk.length) yield chunk
  }, response).catch(() => {}) // until the other end hangs up
  const answers: Record<string, (response: ServerResponse) => unknown> = {
    endless,
    compressed: response => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(20 * MEGABYTE, ' ')))
  }
  for (const [name, answer] of Object.entries(answers)) {
    const server = await startKeyServer(t)
    server.answer = answer
    const { url, entries } = await start(t, { token: { jwksUrl: server.url } })
    t.strictSame(await callConnect(t, url, await signed('ada')), temporary)
    t.match(errorsIn(entries), [{ event: 'keys.failed', reason: `it answers with more than ${MEGABYTE} bytes` }], name)
  }
  t.ok(sent < IN_SOCKETS, `${sent} bytes were sent`)
})

t.test('a redirect of the key server is not followed, and what is no key set is an answer like none', async (t) => {
  const [server, other] = [await startKeyServer(t), await startKeyServer(t)]
  other.keys = [jwk]
  const answers: [answer: (response: ServerResponse) => unknown, reason: RegExp][] = [
    [response => response.writeHead(302, { location: other.url }).end(), /^it answers 302$/],
    [response => response.end('<html>'), /JSON/],
    [response => response.end('[]'), /JSON Web Key Set/],
    [response => response.destroy(), /^fetch failed: /],
    [() => {}, /timed out/]
  ]
  await Promise.all(answers.map(async ([, reason], i) => {
    const { url, entries } = await start(t, { token: { jwksUrl: `${server.url}/${i}` } })
    server.answer = (response) => answers[Number(response.req.url!.split('/').at(-1))]![0](response)
    t.strictSame(await callConnect(t, url, await signed('ada')), temporary)
    t.match(errorsIn(entries), [{ event: 'keys.failed', reason }])
  }))
  t.equal(other.fetched, 0)
})

t.test('data that is nested too deep is refused, and is no error of ours', async (t) => {
  const { url, entries, app } = await start(t, {
    onConnect: (_connection, _request, { data }) => ({ data }),
    onRpc: (_connection, _method, data) => data,
    onMessage: (connection, data) => { connection.send(data) },
    onSubscribe: (_connection, _channel, { data }) => ({ data }),
    channels: { '': { subscribe: true } }
  })
  const deep = '['.repeat(30_000) + ']'.repeat(30_000)
  const client = await connected(t, url)
  t.strictSame(await call(client, `{"id":1,"rpc":{"method":"echo","data":${deep}}}`), badRequest)
  t.strictSame(await call(client, `{"id":1,"subscribe":{"channel":"news","data":${deep}}}`), badRequest)
  t.strictSame(await call(client, { rpc: { data: [[[1]]] } }), { rpc: { data: [[[1]]] } }, 'the connection goes on')
  client.send(`{"send":{"data":${deep}}}`)
  t.strictSame(await client.closed, { code: 3501, reason: 'bad request' }, 'a message has no reply')
  t.strictSame(await call(await connect(t, url), `{"id":1,"connect":{"data":${deep}}}`), badRequest)
  t.strictSame(errorsIn(entries), [])
  t.ok(app.server.listening)
})

t.test('a failure of the app is an error as ever', async (t) => {
  const { url, entries } = await start(t, { onRpc: () => { throw new RangeError('too far') } })
  t.strictSame(await call(await connected(t, url), { rpc: { data: [[1]] } }), temporary)
  t.match(errorsIn(entries), [{ event: 'connection.failed', err: { message: 'too far' } }])
})

t.test('names with half a surrogate pair, which Redis would take for one, are refused', async (t) => {
  const halves = ['\ud800', '\udc00', 'a\ud801', '\udc00\ud800']
  const { app, url, entries } = await start(t, {
    token: { secret },
    authenticate: ({ headers }) => ({ user: JSON.parse(`"${headers['x-user']}"`) }),
    channels: { room: { subscribe: true, publish: true, presence: true, history: { size: 10, ttl: '1m' } } }
  })
  const headers = (user: string) => ({ headers: { 'x-user': user } })
  const client = await connect(t, url, headers('ada'))
  t.match(await call(client, { connect: {} }), { connect: {} })
  for (const half of halves) {
    for (const name of ['subscribe', 'publish', 'presence', 'history']) {
      t.strictSame(await call(client, { [name]: { channel: `room:${half}`, data: 1 } }), badRequest, `${name} ${JSON.stringify(half)}`)
    }
    await t.rejects(app.realtime.publish(`room:${half}`, 1), { code: 'FST_CRWS_INVALID_CHANNEL', message: /half a surrogate pair/ })
    await t.rejects(app.realtime.disconnect(half), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /well-formed Unicode/ })
    await t.rejects(app.realtime.sessions.get(half), { code: 'FST_CRWS_INVALID_ARGUMENT' })
    const bearer = await connect(t, url, headers('ada'))
    bearer.send(JSON.stringify({ id: 1, connect: { token: await hmac({ sub: half }) } }))
    t.strictSame(await bearer.closed, { code: 3500, reason: 'invalid token' })
    t.equal((await rejected(url, headers(JSON.stringify(half).slice(1, -1)))).statusCode, 401)
  }
  t.match(await call(client, { subscribe: { channel: 'room:\ud83d\ude00' } }), { subscribe: { positioned: true } }, 'a whole pair is a character')
  t.strictSame(errorsIn(entries), [])
})

t.test('a user whose id has a comma or a hash enters no user-limited channel, and nobody in their place', async (t) => {
  const { url } = await start(t, { token: { secret }, channels: { inbox: { subscribe: true, publish: true } } })
  const denied = { error: { code: 103, message: 'permission denied' } }
  const enter = async (sub: string, channel: string) => {
    const client = await connected(t, url, await hmac({ sub }))
    return [await call(client, { subscribe: { channel } }), await call(client, { publish: { channel, data: 1 } })]
  }
  for (const [sub, channel] of [['Doe,John', 'inbox:#Doe,John'], ['a#b', 'inbox:#a#b'], ['#a', 'inbox:##a'], [',', 'inbox:#,']] as const) {
    t.strictSame(await enter(sub, channel), [denied, denied], `${sub} in ${channel}`)
  }
  t.strictSame(await enter('b', 'inbox:#a#b'), [denied, denied])
  t.strictSame((await enter('42', 'inbox:#41,42'))[0], { subscribe: {} })
})
