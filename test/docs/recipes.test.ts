import type { FastifyInstance } from 'fastify'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { fork } from 'node:child_process'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startApp } from '../helpers/app.ts'
import { buildPackage } from '../helpers/built-package.ts'
import { block, importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { startKeyServer } from '../helpers/key-server.ts'
import { root } from '../helpers/markdown.ts'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'
import type { Client, ConnectOptions } from '../helpers/ws-client.ts'
import WebSocket from 'ws'

const redis = await startRedis(t)
const secret = secretOf('recipes')

/** What every recipe finds in its environment. Redis is on for all of them: each ends with its own test. */
setEnvironment(t, { PORT: '0', REDIS_URL: redis.url, SESSION_SECRET: secret, TOKEN_SECRET: secret, API_KEY: 'key' })

interface Running {
  app: FastifyInstance
  /** ws://127.0.0.1:port */
  url: string
  /** A plain client. */
  plain (path?: string, options?: ConnectOptions): Promise<Client>
  /** An SDK client. */
  sdk (headers?: Record<string, string>, options?: { getToken? (): Promise<string> }): ReturnType<typeof sdkClient>
  /** Sends a request, and returns the answer's status and its body, as JSON where it is JSON. */
  call (method: string, path: string, headers?: Record<string, string>): Promise<{ status: number, body: any, cookie: string }>
}

/** A recipe that listens, as with `node server.js`. */
async function run (t: Test, recipe: Promise<{ app: FastifyInstance }>): Promise<Running> {
  const { app } = await recipe
  t.teardown(() => app.close())
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  return {
    app,
    url,
    plain: (path = '/ws', options = {}) => connect(t, url + path, options),
    sdk: (headers = {}, options = {}) => sdkClient(t, url, 'json', { websocket: withHeaders(headers), ...options }),
    async call (method, path, headers = {}) {
      const response = await fetch(url.replace('ws', 'http') + path, { method, headers })
      const text = await response.text()
      const cookie = response.headers.getSetCookie().map(value => value.split(';')[0]).join('; ')
      return { status: response.status, body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text, cookie }
    }
  }
}

/** The SDK knows no headers outside of browsers, which send their cookies by themselves. */
function withHeaders (headers: Record<string, string>) {
  return class extends WebSocket {
    constructor (url: string, protocols?: string[]) {
      super(url, protocols, { headers })
    }
  }
}

const as = (user: string) => ({ headers: { 'x-user': user } })
const json = async (client: Client) => JSON.parse(String(await client.next()))

t.test('cookie login on both routes', async (t) => {
  const { plain, sdk, call } = await run(t, importBlock(t, 'docs/recipes.md', 'cookie-login', 'app'))
  const { status, cookie } = await call('POST', '/login')
  t.equal(status, 200)
  t.strictSame(await json(await plain('/ws', { headers: { cookie } })), { hello: '42' })
  const client = await sdk({ cookie }).connected()
  await until(() => client.messages.length > 0, 'the greeting')
  t.strictSame(client.messages, [{ hello: '42' }])
})

t.test('cookie login: who has no session is told so on both routes, and an SDK stays away', async (t) => {
  const { plain, sdk } = await run(t, importBlock(t, 'docs/recipes.md', 'cookie-login', 'app'))
  t.strictSame(await (await plain()).closed, { code: 4501, reason: 'log in again' })
  t.strictSame(await sdk().disconnected(), { code: 4501, reason: 'log in again' })
})

t.test('sign a token', async (t) => {
  const { sdk, url, call } = await run(t, importBlock(t, 'docs/recipes.md', 'sign-token', 'app'))
  const getToken = async () => (await call('GET', '/token')).body
  const [ada, reader] = [sdk({}, { getToken }), sdk({}, { getToken })]
  const chat = await reader.subscribe('chat:lobby').subscribed()
  await ada.publish('chat:lobby', 'hello')
  await chat.arrived(1)
  t.strictSame(chat.events.publication.map(({ data, info }) => [data, info?.user, info?.connInfo]), [['hello', '42', { name: 'Ada' }]])
  t.match(await rejected(`${url}/ws`), { statusCode: 404 }, 'there is no plain route')
})

t.test('sign a token: an SDK without one is refused', async (t) => {
  t.match(await (await run(t, importBlock(t, 'docs/recipes.md', 'sign-token', 'app'))).sdk().disconnected(), { code: 3501 })
})

t.test('internal tools behind IAP', async (t) => {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const server = await startKeyServer(t)
  server.keys.push({ ...await exportJWK(publicKey), kid: 'one', alg: 'ES256' })
  setEnvironment(t, { IAP_KEYS: server.url, IAP_AUDIENCE: '/projects/1/locations/europe-west1/services/tools' })
  const { plain, url } = await run(t, importBlock(t, 'docs/recipes.md', 'iap', 'app'))
  const signed = (audience: string) => new SignJWT({ email: 'ada@example.com' }).setProtectedHeader({ alg: 'ES256', kid: 'one' })
    .setIssuer('https://cloud.google.com/iap').setAudience(audience).setExpirationTime('10m').sign(privateKey)
  const withAssertion = async (audience: string) => ({ headers: { 'x-goog-iap-jwt-assertion': await signed(audience) } })
  const good = await plain('/ws', await withAssertion(process.env.IAP_AUDIENCE!))
  t.strictSame(await json(good), { hello: 'ada@example.com' })
  t.match(await rejected(`${url}/ws`, await withAssertion('another')), { statusCode: 403 })
  t.match(await rejected(`${url}/ws`), { statusCode: 403 })
})

t.test('kick a user: on every instance, for good or to connect again', async (t) => {
  const { app: other } = await startApp(t, { redis: redis.url })
  const { plain, sdk, call } = await run(t, importBlock(t, 'docs/recipes.md', 'kick', 'app'))
  const [tab, phone] = [await plain('/ws', as('42')), await sdk({ 'x-user': '42' }).connected()]
  await call('POST', '/users/42/reload')
  t.strictSame(await tab.closed, { code: 4003, reason: 'your rights have changed' })
  await phone.connected(2)
  await other.realtime.disconnect('42', { code: 4503, reason: 'banned' })
  t.strictSame(await phone.disconnected(), { code: 4503, reason: 'banned' })
  const again = await sdk({ 'x-user': '42' }).connected()
  await call('POST', '/users/42/ban')
  t.strictSame(await again.disconnected(), { code: 4503, reason: 'banned' })
})

t.test('a snapshot without a gap, with an SDK', async (t) => {
  const { sdk } = await run(t, importBlock(t, 'docs/recipes.md', 'snapshot', 'app'))
  const [writer, reader] = [await sdk().connected(), await sdk().connected()]
  const written = (async () => {
    for (let n = 0; n < 40; n++) await writer.rpc('add', `todo ${n}`)
  })()
  const todos = await reader.subscribe('todos:all').subscribed()
  await written
  const { version, items } = todos.events.subscribed[0]!.data as { version: number, items: string[] }
  t.equal(items.length, version)
  const seen = () => [...new Set(todos.data.map(one => (one as { version: number }).version).filter(one => one > version))]
  await until(() => version === 41 || seen().at(-1) === 41, 'all that was written')
  t.strictSame(seen(), Array.from({ length: 41 - version }, (_, n) => version + 1 + n))
})

t.test('a snapshot without a gap, on the plain route', async (t) => {
  const { plain } = await run(t, importBlock(t, 'docs/recipes.md', 'snapshot-plain', 'app'))
  const writer = await plain()
  for (let n = 0; n < 20; n++) writer.send(`todo ${n}`)
  const reader = await plain()
  for (let n = 20; n < 40; n++) writer.send(`todo ${n}`)
  const { type, version, items } = await json(reader)
  t.strictSame([type, items.length], ['todos', version])
  const seen: number[] = []
  while (seen.at(-1) !== 41) seen.push((await json(reader)).version)
  t.strictSame(seen.filter(one => one > version), Array.from({ length: 41 - version }, (_, n) => version + 1 + n))
})

t.test('the last value on subscribing, with an SDK and on the plain route', async (t) => {
  const { plain, sdk, call } = await run(t, importBlock(t, 'docs/recipes.md', 'last-value', 'app'))
  const price = (usd: number) => ({ channel: 'price:gold', usd })
  for (const usd of [1, 2, 3]) await call('POST', `/price/${usd}`)
  const client = await plain()
  t.strictSame(await json(client), price(3))
  const gold = await sdk().subscribe('price:gold').arrived(1)
  t.strictSame(gold.data, [price(3)])
  await call('POST', '/price/4')
  t.strictSame(await json(client), price(4))
  await gold.arrived(2)
  t.strictSame(gold.data, [price(3), price(4)])
})

t.test('private channels', async (t) => {
  const { sdk } = await run(t, importBlock(t, 'docs/recipes.md', 'private-channels', 'app'))
  const client = sdk({ 'x-user': '42' })
  await client.subscribe('inbox:#42').subscribed()
  await client.subscribe('team:red').subscribed()
  for (const channel of ['inbox:#43', 'inbox:open', 'team:blue', 'other:red']) {
    t.match(await client.subscribe(channel).unsubscribed(), { code: channel.startsWith('other') ? 102 : 103 }, channel)
  }
})

t.test('everybody but the sender', async (t) => {
  const { app, plain, sdk } = await run(t, importBlock(t, 'docs/recipes.md', 'except-sender', 'app'))
  const [one, two] = [await plain(), await plain()]
  const three = await sdk().connected()
  const board = await three.subscribe('draw:board').subscribed()
  await until(() => [...app.realtime.connections].every(({ channels }) => channels.has('draw:board')), 'all are subscribed')
  one.send('a line')
  t.strictSame(await json(two), { line: 'a line' })
  await board.arrived(1)
  await three.publish('draw:board', 'another')
  for (const client of [one, two]) t.strictSame(await json(client), { line: 'another' })
  two.send('the last')
  await board.arrived(2)
  t.strictSame(board.data, [{ line: 'a line' }, { line: 'the last' }])
  t.strictSame(await json(one), { line: 'the last' })
})

t.test('to everybody, or to one user', async (t) => {
  const { plain, sdk, call } = await run(t, importBlock(t, 'docs/recipes.md', 'to-whom', 'app'))
  const [ann, bob, phone] = [await plain('/ws', as('ann')), await plain('/ws', as('bob')), await sdk({ 'x-user': 'ann' }).connected()]
  t.match(await call('POST', '/paid/ann'), { body: { ok: true } })
  await call('POST', '/maintenance')
  const maintenance = { type: 'maintenance', in: '5 minutes' }
  t.strictSame([await json(ann), await json(ann)], [{ type: 'paid' }, maintenance])
  t.strictSame(await json(bob), maintenance)
  await until(() => phone.messages.length === 2, 'the phone has both')
  t.strictSame(phone.messages, [{ type: 'paid' }, maintenance])
})

t.test('is user 42 online, on any instance', async (t) => {
  const { plain, call } = await run(t, importBlock(t, 'docs/recipes.md', 'is-online', 'app'))
  const { url } = await startApp(t, { redis: redis.url, authenticate: () => ({ user: '43' }) })
  await plain('/ws', as('42'))
  await connect(t, `${url}/ws`)
  for (const user of ['42', '43']) {
    await until(async () => (await call('GET', `/online/${user}`)).body.online === true, `user ${user} is there`)
  }
  t.strictSame((await call('GET', '/online/44')).body, { online: false })
})

t.test('who is online', async (t) => {
  const { plain, sdk, call } = await run(t, importBlock(t, 'docs/recipes.md', 'who-is-online', 'app'))
  await plain('/ws', as('1'))
  await plain('/ws', as('1'))
  await sdk({ 'x-user': '2' }).connected()
  await until(async () => (await call('GET', '/online')).body.length === 2, 'both users are there')
  const users = (await call('GET', '/online')).body as Array<{ user: string }>
  t.strictSame(users.toSorted((a, b) => Number(a.user) - Number(b.user)), [
    { user: '1', info: { name: 'User 1' } }, { user: '2', info: { name: 'User 2' } }
  ])
})

t.test('a safe RPC table', async (t) => {
  const { sdk } = await run(t, importBlock(t, 'docs/recipes.md', 'safe-rpc', 'app'))
  const client = await sdk().connected()
  t.equal(await client.rpc('add', { a: 1, b: 2 }), 3)
  t.equal(await client.rpc('whoami', {}), '')
  await t.rejects(client.rpc('add', { a: 'one' }), { code: 107, message: /^bad request: data\/a: / })
  await t.rejects(client.rpc('add', null), { code: 107 })
  for (const method of ['constructor', 'toString', 'nothing']) {
    await t.rejects(client.rpc(method, {}), { code: 104, message: 'method not found' })
  }
})

t.test('plain messages with acknowledgements', async (t) => {
  const { plain } = await run(t, importBlock(t, 'docs/recipes.md', 'dispatch', 'app'))
  const [one, two] = [await plain(), await plain()]
  const ask = async (client: Client, message: string | object) => {
    client.send(typeof message === 'string' ? message : JSON.stringify(message))
    return json(client)
  }
  for (const client of [one, two]) {
    t.strictSame(await ask(client, { id: 1, method: 'join', data: { room: 'lobby' } }), { id: 1, result: {} })
  }
  one.send(JSON.stringify({ id: 2, method: 'say', data: { room: 'lobby', text: 'hello' } }))
  const said = { channel: 'room:lobby', user: '', text: 'hello' }
  t.strictSame(await json(two), said)
  const answers = [await json(one), await json(one)]
  t.match(answers.find(({ id }) => id === 2), { result: {} })
  t.strictSame(answers.find(({ id }) => id === undefined), said)
  t.match(await ask(one, { id: 3, method: 'say', data: { room: 'garden', text: 'hi' } }), { id: 3, error: { code: 403 } })
  for (const garbage of ['', 'no JSON', 'null', '[]', '{"method":{"a":1}}']) {
    t.match(await ask(one, garbage), { error: { code: 107 } }, garbage)
  }
  t.match(await ask(one, { method: 'constructor' }), { error: { code: 104 } })
  t.match(await ask(one, { id: 4, method: 'join', data: null }), { id: 4, error: { code: 107 } })
})

t.test('the server asks a client', async (t) => {
  const { plain, call } = await run(t, importBlock(t, 'docs/recipes.md', 'ask-client', 'app'))
  const client = await plain('/ws', as('42'))
  const stranger = await plain('/ws', as('43'))
  const confirmed = call('POST', '/users/42/confirm')
  const { id, ...question } = await json(client)
  t.strictSame(question, { method: 'confirm', data: { question: 'Delete it?' } })
  stranger.send(JSON.stringify({ id, result: 'yes, by somebody else' }))
  t.match(await stranger.closed, { code: 1003 }, 'who was asked nothing cannot answer, and the app takes no messages')
  client.send(JSON.stringify({ id, result: 'yes' }))
  t.match(await confirmed, { status: 200, body: { answer: 'yes' } })
  t.match(await call('POST', '/users/44/confirm'), { status: 404 })
  t.match(await call('POST', '/users/42/confirm'), { status: 504, body: { error: 'FST_CRWS_REQUEST_TIMEOUT' } }, 'the client did not answer')
  client.send(JSON.stringify({ id: (await json(client)).id, result: 'too late' }))
  const again = call('POST', '/users/42/confirm')
  client.send(JSON.stringify({ id: (await json(client)).id, result: 'no' }))
  t.match(await again, { status: 200, body: { answer: 'no' } }, 'a late answer does no harm')
})

t.test('a route per room', async (t) => {
  const { plain } = await run(t, importBlock(t, 'docs/recipes.md', 'rooms', 'app'))
  const [one, two, other] = [await plain('/rooms/red'), await plain('/rooms/red'), await plain('/rooms/blue')]
  one.send('hello')
  for (const client of [one, two]) t.strictSame(await json(client), { text: 'hello' })
  other.send('alone')
  t.strictSame(await json(other), { text: 'alone' })
})

t.test('publish from a script', async (t) => {
  const channels = { news: { history: { size: 100, ttl: '1d' } } }
  const { url } = await startApp(t, { redis: redis.url, channels, onConnect: connection => connection.subscribe('news:all') })
  const reader = await connect(t, `${url}/ws`)
  const { offset } = await importBlock(t, 'docs/recipes.md', 'script', 'offset')
  t.equal(offset, 1)
  t.ok(await json(reader))
})

t.test('Prometheus', async (t) => {
  const { plain, call } = await run(t, importBlock(t, 'docs/recipes.md', 'prometheus', 'app'))
  await plain()
  t.match((await call('GET', '/metrics')).body, /^websocket_server_connection_active\{.*\} 1$/m)
})

t.test('Vite', async (t) => {
  const { plain, url } = await run(t, importBlock(t, 'docs/recipes.md', 'vite', 'app'))
  t.equal(await (await plain('/ws', { origin: 'http://localhost:5173' })).next(), 'hello')
  t.match(await rejected(`${url}/ws`, { origin: 'http://localhost:5174' }), { statusCode: 403 })
})

t.test('Vite: its proxy without changeOrigin needs no option', async (t) => {
  const { url } = await startApp(t, { redis: false })
  await connect(t, `${url}/ws`, { headers: { host: 'localhost:5173' }, origin: 'http://localhost:5173' })
})

t.test('your own WebSocket routes', async (t) => {
  const { plain } = await run(t, importBlock(t, 'docs/recipes.md', 'own-routes', 'app'))
  t.equal(await (await plain()).next(), 'ours')
  const echo = await plain('/echo')
  echo.send('mine')
  t.equal(await echo.next(), 'mine')
})

t.test('tests without Redis', async (t) => {
  const { app, client } = await importBlock(t, 'docs/recipes.md', 'tests', 'app', 'client')
  await until(() => client.readyState === WebSocket.CLOSED, 'the client is closed')
  await app.close()
})

t.test('probes behind a login', async (t) => {
  const { call, plain, url } = await run(t, importBlock(t, 'docs/recipes.md', 'probes', 'app'))
  t.equal((await call('GET', '/health')).status, 200)
  await until(async () => (await call('GET', '/ready')).status === 200, 'it is ready')
  t.equal((await call('GET', '/reports')).status, 401)
  t.equal((await call('GET', '/reports', { authorization: 'Bearer key' })).status, 200)
  t.match(await rejected(`${url}/ws`), { statusCode: 401 })
  await plain('/ws', { headers: { authorization: 'Bearer key' } })
})

t.test('CommonJS', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'commonjs-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const modules = join(folder, 'node_modules')
  await buildPackage(join(modules, 'fastify-cloud-run-websocket'))
  await symlink(join(root, 'node_modules/fastify'), join(modules, 'fastify'))
  await writeFile(join(folder, 'server.cjs'), block('docs/recipes.md', 'commonjs'))
  const child = fork(join(folder, 'server.cjs'), { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], execArgv: [], env: { ...process.env, NODE_OPTIONS: '' } })
  t.teardown(() => child.kill('SIGKILL'))
  let log = ''
  child.stdout!.on('data', (chunk) => { log += chunk })
  const port = await until(() => /listening at http:\/\/127.0.0.1:(\d+)/.exec(log)?.[1], 'it listens', 30_000)
  t.equal(await (await connect(t, `ws://127.0.0.1:${port}/ws`)).next(), 'hello')
})
