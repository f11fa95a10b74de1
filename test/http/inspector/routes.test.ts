import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import cloudRunWebSocket, { ClientError } from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { startCore } from '../../helpers/core.ts'
import { collectLog } from '../../helpers/log.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { sdkClient } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

const ADDRESS = '/inspect'
const ada: Options = { inspectPath: ADDRESS, inspect: { authorize: () => 'ada@example.com' } }
/** Clients say who they are, and where they want to be. */
const clients: Options = {
  authenticate: ({ query }) => ({ user: (query as { user?: string }).user }),
  onMessage: () => {},
  onConnect: (connection, { query }) => Promise.all(String((query as { in?: string }).in ?? '').split(',').filter(Boolean).map(name => connection.subscribe(name)))
}

const post = (app: FastifyInstance, path: string, payload: unknown, headers: Record<string, string> = {}) => {
  return app.inject({ method: 'POST', url: `${ADDRESS}/${path}`, headers: { 'content-type': 'application/json', ...headers }, payload: JSON.stringify(payload) })
}
const see = async (app: FastifyInstance, view: unknown) => {
  const response = await post(app, 'view', view)
  if (response.statusCode !== 200) throw new Error(response.body)
  return response.json()
}
const users = async (app: FastifyInstance, view: object) => (await see(app, { show: 'connections', ...view })).connections.map(({ user }: { user: string }) => user)

t.test('without inspectPath there is no page', async (t) => {
  const { app } = await startApp(t, { inspect: ada.inspect })
  for (const url of [ADDRESS, `${ADDRESS}/page.js`]) t.equal((await app.inject(url)).statusCode, 404)
  t.equal((await post(app, 'view', { show: 'connections' })).statusCode, 404)
})

t.test('inspectPath without inspect.authorize is an error of the options', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(cloudRunWebSocket, { inspectPath: ADDRESS, shutdown: false }), {
    code: 'FST_CRWS_INVALID_OPTION',
    message: 'Invalid option "inspect": got nothing, expected { authorize }, which says who may look at the page of inspectPath'
  })
})

t.test('every route asks authorize', async (t) => {
  const asked: string[] = []
  const { app } = await startApp(t, { inspectPath: ADDRESS, inspect: { authorize: ({ url }) => { asked.push(url); return undefined } } })
  const gets = ['', '/page.js', '/page.css', '/dom.js', '/questions.js'].map(path => ADDRESS + path)
  const posts = ['view', 'publish', 'disconnect']
  for (const url of gets) t.match((await app.inject(url)).json(), { statusCode: 403, code: 'FST_CRWS_INSPECT_FORBIDDEN', error: 'Forbidden' }, url)
  for (const path of posts) t.match((await post(app, path, {})).json(), { statusCode: 403, code: 'FST_CRWS_INSPECT_FORBIDDEN' }, path)
  t.strictSame(asked, [...gets, ...posts.map(path => `${ADDRESS}/${path}`)])
})

t.test('what authorize throws is the answer: 401, or the status, the text and the headers of a refusal', async (t) => {
  const { logger, entries } = collectLog()
  let thrown: unknown
  const { app } = await startApp(t, { inspectPath: ADDRESS, inspect: { authorize: async () => { throw thrown } } }, { logger })
  const answerTo = async (error: unknown) => {
    thrown = error
    const { statusCode, headers, body } = await app.inject(ADDRESS)
    const { code, message } = JSON.parse(body)
    return { statusCode, code, message, ...(headers['www-authenticate'] !== undefined && { asks: headers['www-authenticate'] }) }
  }
  const code = 'FST_CRWS_UNAUTHORIZED'
  const hidden = { statusCode: 401, code, message: 'Not authenticated: the credentials were not accepted' }
  t.strictSame(await answerTo(new Error('the password is hush')), hidden)
  t.strictSame(await answerTo(null), hidden)
  t.strictSame(await answerTo(new ClientError(403, 'not signed by IAP')), { statusCode: 403, code, message: 'Not authenticated: not signed by IAP' })
  const basic = Object.assign(new Error('who are you?'), { statusCode: 401, headers: { 'www-authenticate': 'Basic realm="inspector"' } })
  t.strictSame(await answerTo(basic), { statusCode: 401, code, message: 'Not authenticated: who are you?', asks: 'Basic realm="inspector"' })
  t.match(await answerTo(Object.assign(new Error('no'), { statusCode: 403 })), { statusCode: 403, code })
  t.strictSame(entries.filter(({ event }) => event === 'call.failed'), [], 'a refusal is no failure')
  const bug = Object.assign(new TypeError('x is not a function'), { headers: { 'www-authenticate': 'no' } })
  for (let i = 0; i < 3; i++) { // anybody can make it fail: the log has it once a minute
    t.strictSame(await answerTo(bug), {
      statusCode: 500, code: 'FST_CRWS_AUTHENTICATE_FAILED', message: 'The credentials could not be checked: the server has failed, and its log says why. Try again later'
    })
  }
  const [entry, ...more] = entries.filter(({ event }) => event === 'call.failed')
  t.match(entry, { call: 'inspect.authorize', msg: 'Call of inspect.authorize failed: x is not a function' })
  t.strictSame(more, [])
})

t.test('the page is self-contained, is kept nowhere, and runs and loads nothing but its own files', async (t) => {
  const { app } = await startApp(t, ada)
  const page = await app.inject(ADDRESS)
  t.equal(page.statusCode, 200)
  t.match(page.headers['content-type'], /^text\/html/)
  t.notMatch(page.body, /<script(?![^>]* src="\.\/inspect\/page\.js")|<style| style=| on\w+=|{{|https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
  const policy = String(page.headers['content-security-policy'])
  t.notMatch(policy, /unsafe|\*|https?:/)
  t.match(policy, "default-src 'none'")
  t.match(policy, "frame-ancestors 'none'")
  for (const [file, type] of [['page.css', 'text/css'], ['page.js', 'text/javascript'], ['dom.js', 'text/javascript'], ['questions.js', 'text/javascript']] as const) {
    const { statusCode, headers, body } = await app.inject(`${ADDRESS}/${file}`)
    t.match({ statusCode, type: headers['content-type'] }, { statusCode: 200, type: `${type}; charset=utf-8` })
    t.notMatch(body, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:\/\//)
  }
  for (const answer of [page, await app.inject(`${ADDRESS}/page.js`), await post(app, 'view', { show: 'channels' }), await post(app, 'view', {})]) {
    t.match(answer.headers, {
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'content-security-policy': policy
    })
  }
})

t.test('the page finds its files under any path and prefix, with or without a slash at the end', async (t) => {
  for (const [prefix, inspectPath, asked, base, ignoreTrailingSlash = false] of [
    ['/x', '/a/b c', '/x/a/b%20c', './b%20c'], ['/x', '/a/b c', '/x/a/b%20c/', '.'], ['', '/i', '/i', './i'], ['', '/i', '/i/', '.'],
    ['/x', '/i', '/x/i/', '.'], ['/x', '/i/', '/x/i/', '.'], ['/x', '/i/', '/x/i', './i'], ['/x', '/', '/x/', '.'], ['/x', '/', '/x', './x'],
    ['', '/', '/', '.'], ['/x', '/i', '/x/i/?a=b', '.', true], ['/x', '/i/', '/x/i?a=b', './i', true]
  ] as const) {
    const app = Fastify({ routerOptions: { ignoreTrailingSlash } })
    t.teardown(() => app.close())
    const options: Options = { ...ada, redis: false, shutdown: false, inspectPath }
    await app.register(async scope => { await scope.register(cloudRunWebSocket, options) }, { prefix })
    const { statusCode, body } = await app.inject(asked)
    t.equal(statusCode, 200, asked)
    const [, script = ''] = /src="([^"]+)"/.exec(body) ?? []
    t.equal(script, `${base}/page.js`)
    t.equal((await app.inject(new URL(script, `http://localhost${asked}`).pathname)).statusCode, 200, script)
  }
})

t.test('a path that the app has already is named together with the option', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get(ADDRESS, async () => 'mine')
  await t.rejects(async () => await app.register(cloudRunWebSocket, { ...ada, shutdown: false }), { code: 'FST_CRWS_ROUTE_TAKEN', message: /with the option inspectPath/ })
  const other = Fastify()
  t.teardown(() => other.close())
  other.get(`${ADDRESS}/`, async () => 'mine')
  await t.rejects(async () => await other.register(cloudRunWebSocket, { ...ada, shutdown: false }), {
    code: 'FST_CRWS_ROUTE_TAKEN', message: /^The route GET \/inspect\/ already exists.*with the option inspectPath/
  })
  const twice = Fastify()
  t.teardown(() => twice.close())
  await t.rejects(async () => await twice.register(cloudRunWebSocket, { ...ada, shutdown: false, readyPath: `${ADDRESS}/` }), {
    code: 'FST_CRWS_INVALID_OPTION', message: /"inspectPath".*a path other than that of readyPath/
  })
})

t.test('hooks of the app see the page, and its parsers are not used', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const seen: string[] = []
  app.addHook('onRequest', async ({ url }) => { seen.push(url) })
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, async () => ({ channel: 'news', data: 'from a form' }))
  await app.register(cloudRunWebSocket, { ...ada, redis: false, shutdown: false })
  await app.inject(ADDRESS)
  t.strictSame(seen, [ADDRESS])
  const form = await post(app, 'publish', {}, { 'content-type': 'application/x-www-form-urlencoded' })
  t.match(form.json(), { statusCode: 415, code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE' })
})

t.test('the questions of an open page fill no log, unless logLevel asks for them', async (t) => {
  for (const [logLevel, logged] of [[undefined, ['/inspect', '/inspect/publish']], ['info', ['/inspect', '/inspect/page.js', '/inspect/view', '/inspect/publish']]] as const) {
    const { logger, entries } = collectLog()
    const { app } = await startApp(t, { ...ada, ...(logLevel && { logLevel }) }, { logger })
    await app.inject(ADDRESS)
    await app.inject(`${ADDRESS}/page.js`)
    await post(app, 'view', { show: 'channels' })
    await post(app, 'publish', { channel: 'news', data: 1 })
    t.strictSame(entries.filter(({ msg }) => msg === 'incoming request').map(({ req }) => req.url), logged)
  }
})

t.test('another site can make a browser do nothing here', async (t) => {
  const { app } = await startApp(t, ada)
  const status = async (headers: Record<string, string>) => (await post(app, 'publish', { channel: 'news', data: 1 }, { host: 'app.example', ...headers })).statusCode
  for (const headers of [
    { 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { 'sec-fetch-site': 'none' }, { origin: 'https://evil.example' }, { origin: 'null' },
    { origin: 'http://app.example', 'sec-fetch-site': 'same-site' }
  ]) {
    const response = await post(app, 'publish', { channel: 'news', data: 1 }, { host: 'app.example', ...headers as Record<string, string> })
    t.match(response.json(), { statusCode: 403, code: 'FST_CRWS_CROSS_SITE' }, JSON.stringify(headers))
    t.match((await post(app, 'view', { show: 'channels' }, { host: 'app.example', ...headers as Record<string, string> })).json(), { code: 'FST_CRWS_CROSS_SITE' })
  }
  t.equal(await status({ origin: 'http://app.example' }), 200)
  t.equal(await status({ origin: 'https://proxied.example', 'sec-fetch-site': 'same-origin' }), 200, 'a proxy has changed the host')
  t.equal(await status({}), 200, 'a program brings no login but its own')
})

t.test('what is wrong with a request is answered with a code', async (t) => {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, ada, { logger })
  const argument = { statusCode: 400, code: 'FST_CRWS_INVALID_ARGUMENT' }
  for (const [path, body, expected] of [
    ['view', null, argument], ['view', [], argument], ['view', 'x', argument], ['view', {}, argument], ['view', { show: 'all' }, argument],
    ['view', { show: 'connections', protocl: 'json' }, { ...argument, message: /did you mean `protocol`/ }],
    ['view', { show: 'connections', protocol: 'soap' }, { ...argument, message: /Invalid protocol of the view: got 'soap', expected plain, json, protobuf/ }],
    ['view', { show: 'connections', order: 'clients' }, argument], ['view', { show: 'channels', order: 'newest' }, argument],
    ['view', { show: 'connections', user: 1 }, argument], ['view', { show: 'connections', channel: 'x'.repeat(256) }, argument],
    ['view', { show: 'channel' }, { statusCode: 400, code: 'FST_CRWS_INVALID_CHANNEL' }], ['view', { show: 'channel', name: '\u0000control' }, { code: 'FST_CRWS_INVALID_CHANNEL' }],
    ['publish', null, argument], ['publish', { channel: 'a', data: 1, tags: {} }, argument],
    ['publish', { channel: '', data: 1 }, { code: 'FST_CRWS_INVALID_CHANNEL' }], ['publish', { channel: '\u0000control', data: 1 }, { code: 'FST_CRWS_INVALID_CHANNEL' }],
    ['publish', { channel: 'a' }, { code: 'FST_CRWS_INVALID_DATA' }], ['publish', { channel: 'a', data: 'x'.repeat(300_000) }, { statusCode: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' }],
    ['disconnect', {}, argument], ['disconnect', { client: 'a', user: 'b' }, argument], ['disconnect', { user: '' }, argument], ['disconnect', { client: 5 }, argument]
  ] as const) t.match((await post(app, path, body)).json(), expected, `${path} ${JSON.stringify(body).slice(0, 80)}`)
  const broken = await app.inject({ method: 'POST', url: `${ADDRESS}/view`, headers: { 'content-type': 'application/json' }, payload: '{' })
  t.equal(broken.statusCode, 400)
  t.match((await app.inject({ method: 'POST', url: `${ADDRESS}/view` })).json(), argument)
  t.strictSame(entries.filter(({ event, level }) => level >= 50 || event?.startsWith('inspect.') || event === 'call.failed'), [])
})

t.test('connections are found by user, client, channel, protocol and instance, in any order', async (t) => {
  const { app, url } = await startApp(t, { ...ada, ...clients, channels: { news: { subscribe: true } } })
  await connect(t, `${url}/ws?user=Ann&in=news:a,Sport`)
  const bob = await connect(t, `${url}/ws?user=bob`)
  const sdk = await sdkClient(t, `${url}/connection/websocket?user=cid`, 'protobuf').connected()
  await until(() => Array.from(app.realtime.connections).length === 3 && Array.from(app.realtime.connections)[0]!.channels.size === 2, 'all are there')
  bob.send('hello')
  const [ann] = Array.from(app.realtime.connections)
  const { instances: [instance], matching, connections: [row] } = await see(app, { show: 'connections', user: 'ANN' })
  t.match(instance, { instance: String, revision: '', connections: 3, channels: 2, uptime: Number, memory: Number })
  t.equal(matching, 1)
  t.match(row, {
    client: ann!.id,
    user: 'Ann',
    userCut: false,
    protocol: 'plain',
    identified: true,
    instance: instance.instance,
    age: Number,
    channels: ['news:a', 'Sport'],
    channelCount: 2,
    buffered: 0,
    received: 0,
    sent: 0,
    bytesReceived: 0,
    bytesSent: 0
  })
  t.strictSame(await users(app, { client: ann!.id.slice(3, 20).toUpperCase() }), ['Ann'])
  t.strictSame(await users(app, { channel: 'sport' }), ['Ann'])
  t.strictSame(await users(app, { protocol: 'protobuf' }), ['cid'])
  t.strictSame(await users(app, { instance: instance.instance, protocol: 'plain', order: 'oldest' }), ['Ann', 'bob'])
  t.strictSame(await users(app, { instance: 'another' }), [])
  t.strictSame(new Set(await users(app, { order: 'newest' })), new Set(['cid', 'bob', 'Ann']))
  for (const order of ['received', 'sent', 'buffered']) t.equal((await users(app, { order })).length, 3)
  t.equal((await users(app, { order: 'sent' }))[0], 'cid')
  sdk.client.disconnect()
})

t.test('no more is sent than is shown: connections, channels of one of them, and a long id are cut', async (t) => {
  const long = 'u'.repeat(300)
  const { app, url } = await startApp(t, { ...ada, ...clients })
  await connect(t, `${url}/ws?user=${long}&in=a,b,c,d,e,f,g`)
  await Promise.all(Array.from({ length: 105 }, (_, i) => connect(t, `${url}/ws?user=many-${i}`)))
  await until(async () => (await see(app, { show: 'connections', channel: 'g' })).matching === 1, 'it is in its last channel')
  const one = await see(app, { show: 'connections', channel: 'g' })
  t.match(one.connections, [{ user: long.slice(0, 255), userCut: true, channels: ['a', 'b', 'c', 'd', 'e'], channelCount: 7 }])
  const many = await see(app, { show: 'connections' })
  t.match([many.matching, many.connections.length], [106, 100])
})

t.test('channels are listed by clients or by name, over all instances, and more than 100 are said to be more', async (t) => {
  const redis = await startRedis(t)
  const options = { ...ada, ...clients, redis: redis.url, keyPrefix: randomPrefix() }
  const [one, two] = await Promise.all([startApp(t, options), startApp(t, { ...options, inspectPath: false })])
  await connect(t, `${one.url}/ws?in=b,a`)
  await connect(t, `${two.url}/ws?in=b,c,other`)
  await until(async () => (await see(one.app, { show: 'channels' })).channels.length === 4, 'both are there')
  const { channels, more, connections, matching, missing } = await see(one.app, { show: 'channels' })
  t.strictSame({ channels, more, connections, matching, missing }, {
    channels: [
      { channel: 'b', clients: 2, instances: 2 }, { channel: 'a', clients: 1, instances: 1 }, { channel: 'c', clients: 1, instances: 1 },
      { channel: 'other', clients: 1, instances: 1 }
    ],
    more: false,
    connections: [],
    matching: undefined,
    missing: []
  })
  t.strictSame((await see(one.app, { show: 'channels', order: 'name', channel: 'O' })).channels, [{ channel: 'other', clients: 1, instances: 1 }])
  await connect(t, `${one.url}/ws?in=${Array.from({ length: 101 }, (_, i) => `many-${i}`).join()}`)
  await until(async () => (await see(one.app, { show: 'channels' })).more, 'there are more than are shown')
  t.equal((await see(one.app, { show: 'channels', order: 'name' })).channels.length, 100)
})

t.test('of 500 channels and more an instance sends the first, and the page is told', async (t) => {
  const { app, url } = await startApp(t, { ...ada, ...clients })
  for (const part of [0, 1, 2]) await connect(t, `${url}/ws?in=${Array.from({ length: 170 }, (_, i) => `${part}-${i}`).join()}`)
  await until(() => Array.from(app.realtime.connections).every(({ channels }) => channels.size === 170), 'all are subscribed')
  t.match(await see(app, { show: 'channels' }), { more: true })
})

for (const kind of ['memory', 'Redis'] as const) {
  t.test(`a channel shows who is in it and what was published last, with ${kind}`, async (t) => {
    const redis = kind === 'Redis' ? (await startRedis(t)).url : false
    const { app, url } = await startApp(t, {
      ...ada, ...clients, redis, keyPrefix: randomPrefix(), channels: { news: { subscribe: true, publish: true, history: { size: 50, ttl: '1m' } } }
    })
    await connect(t, `${url}/ws?user=ann&in=news:a`)
    await connect(t, `${url}/ws?user=bob&in=news:ab`)
    await until(async () => (await see(app, { show: 'channels' })).channels.length === 2, 'both are there')
    await app.realtime.publish('news:a', { text: 'ü'.repeat(600) })
    await app.realtime.publish('news:a', Buffer.from([0, 255]))
    const sdk = await sdkClient(t, `${url}/connection/websocket?user=cid`, 'json').connected()
    await sdk.client.publish('news:a', 'hi')
    const { connections, publications, matching } = await see(app, { show: 'channel', name: 'news:a' })
    t.match([matching, connections], [1, [{ user: 'ann' }]])
    t.match(publications, {
      kept: true, offset: 3, rows: [{ offset: 3, kind: 'json', shown: '"hi"', bytes: 4, user: 'cid', client: String }, { offset: 2, kind: 'binary', shown: 'AP8=', bytes: 2 }, { offset: 1, bytes: 1211, kind: 'json' }]
    })
    const { shown, user } = publications.rows[2]
    t.equal(user, undefined)
    t.match(shown, /^{"text":"ü+$/)
    t.ok(Buffer.byteLength(shown) <= 1_024)
    t.match((await see(app, { show: 'channel', name: 'empty' })).publications, { kept: false, rows: [] })
  })
}

t.test('publishing reaches clients of every instance, and the log says who did it, but not what', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog()
  const options = { ...ada, ...clients, redis: redis.url, keyPrefix: randomPrefix(), channels: { kept: { history: { size: 5, ttl: '1m' } } } }
  const one = await startApp(t, options, { logger })
  const two = await startApp(t, { ...clients, redis: redis.url, keyPrefix: options.keyPrefix })
  const client = await connect(t, `${two.url}/ws?in=news`)
  await until(() => Array.from(two.app.realtime.connections)[0]!.channels.has('news'), 'it is subscribed')
  t.strictSame((await post(one.app, 'publish', { channel: 'news', data: { secret: 'hush' } })).json(), {})
  t.strictSame(JSON.parse(String(await client.next())), { secret: 'hush' })
  t.match((await post(one.app, 'publish', { channel: 'kept:a', data: 'as text' })).json(), { offset: 1, epoch: String })
  const published = entries.filter(({ event }) => event === 'inspect.published')
  t.match(published, [
    { level: 40, who: 'ada@example.com', channel: 'news', bytes: 17, reqId: String, msg: 'ada@example.com publishes to news from the page of inspectPath' },
    { who: 'ada@example.com', channel: 'kept:a', bytes: 7 }
  ])
  t.notMatch(JSON.stringify(published), /hush/)
})

t.test('a connection or a user is closed with 3503 on any instance, and the log says who did it', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog()
  const options = { ...ada, ...clients, redis: redis.url, keyPrefix: randomPrefix() }
  const [one, two] = [await startApp(t, options, { logger }), await startApp(t, options)]
  const ann = await connect(t, `${two.url}/ws?user=ann`)
  const [here, there, client] = [await connect(t, `${one.url}/ws?user=bob`), await connect(t, `${two.url}/ws?user=bob`), await until(async () => (await see(one.app, { show: 'connections', user: 'ann' })).connections[0]?.client, 'ann is seen')]
  t.equal((await post(one.app, 'disconnect', { client })).statusCode, 200)
  t.strictSame(await ann.closed, { code: 3503, reason: 'force disconnect' })
  t.equal((await post(one.app, 'disconnect', { user: 'bob' })).statusCode, 200)
  t.strictSame(await Promise.all([here.closed, there.closed]), [{ code: 3503, reason: 'force disconnect' }, { code: 3503, reason: 'force disconnect' }])
  t.match(entries.filter(({ event }) => event === 'inspect.disconnected'), [
    { level: 40, who: 'ada@example.com', connection: client, msg: `ada@example.com disconnects client ${client} from the page of inspectPath` },
    { level: 40, who: 'ada@example.com', user: 'bob' }
  ])
})

t.test('while Redis is down the page shows this instance alone, and what fails is logged as failed', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { ...ada, ...clients, redis: redis.url, keyPrefix: randomPrefix(), channels: { kept: { history: { size: 5, ttl: '1m' } } } }, { logger })
  await connect(t, `${url}/ws?user=ann`)
  redis.kill()
  await until(() => entries.some(({ event }) => event === 'bridge.down'), 'Redis is down')
  const { instance, alone, instances, connections, missing } = await see(app, { show: 'connections' })
  t.match({ alone, instances, connections, missing }, { alone: { code: /^FST_CRWS_REDIS_/ }, instances: [{ instance }], connections: [{ user: 'ann' }], missing: [] })
  t.match((await see(app, { show: 'channel', name: 'kept:a' })).publications, { kept: true, rows: [], failed: { code: /^FST_CRWS_REDIS_/ } })
  t.match((await post(app, 'publish', { channel: 'kept:a', data: 1 })).json(), { statusCode: 503, code: /^FST_CRWS_REDIS_/ })
  t.match((await post(app, 'disconnect', { user: 'ann' })).json(), { statusCode: 503, code: /^FST_CRWS_REDIS_/ })
  t.match(entries.filter(({ event }) => event?.startsWith('inspect.')), [{ who: 'ada@example.com', channel: 'kept:a', error: String }, { who: 'ada@example.com', user: 'ann', error: String }])
})

t.test('what another instance sends is no report, or it does not answer: it is named as missing', async (t) => {
  const redis = await startRedis(t)
  const options = { redis: redis.url, keyPrefix: randomPrefix() }
  const { app } = await startApp(t, { ...options, ...ada })
  const strange = await startCore(t, options)
  const info = { instance: 'x', revision: '', connections: 0, channels: 0, uptime: 0, memory: 0 }
  const row = { client: 'c', user: 'u', protocol: 'p', age: 0, channelCount: 1, buffered: 0, received: 0, sent: 0, bytesReceived: 0, bytesSent: 0, channels: ['a'] }
  const good = { info, matching: 1, connections: [row], channels: [['a', 1]] }
  for (const bad of [
    null, 'x', {}, { ...good, info: undefined }, { ...good, info: { ...info, instance: 1 } }, { ...good, info: { ...info, memory: 'x' } }, { ...good, matching: '1' },
    { ...good, connections: {} }, { ...good, connections: [null] }, { ...good, connections: [{ ...row, user: { toString: 1 } }] },
    { ...good, connections: [{ ...row, sent: null }] },
    { ...good, connections: [{ ...row, channels: 'a' }] }, { ...good, connections: [{ ...row, channels: [1] }] }, { ...good, channels: [['a']] }, { ...good, channels: ['a'] }
  ]) {
    strange.core.survey.answer({ name: 'inspect' }, () => bad)
    const { missing, instances } = await see(app, { show: 'connections' })
    t.strictSame([missing, instances.length], [[strange.id], 1], JSON.stringify(bad))
  }
  strange.core.survey.answer({ name: 'inspect' }, () => good)
  const { instances, connections } = await see(app, { show: 'connections' })
  t.equal(instances.length, 2)
  t.match(connections, [{ client: 'c', instance: strange.id }], 'an instance speaks for itself alone')
  strange.core.survey.answer({ name: 'inspect' }, () => ({ ...good, connections: [row, row] }))
  t.match(await see(app, { show: 'channels', order: 'clients' }), { connections: [] }, 'what nobody asked for is not shown')
})

t.test('an error that is neither ours nor about the request is the app\'s to handle', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.setErrorHandler((error: Error, _request, reply) => reply.code(500).send({ mine: error.message }))
  app.addHook('preHandler', async () => { throw new Error('of a hook') })
  await app.register(cloudRunWebSocket, { ...ada, redis: false, shutdown: false })
  t.strictSame((await app.inject(ADDRESS)).json(), { mine: 'of a hook' })
})
