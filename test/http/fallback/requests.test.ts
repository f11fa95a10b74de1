import Fastify from 'fastify'
import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import t from 'tap'
import cloudRunWebSocket, { ClientError } from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { collectLog } from '../../helpers/log.ts'
import { openRaw, upgradeRequest } from '../../helpers/raw-socket.ts'
import { httpOf, openStream, post, streamClient } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'
import { rejected } from '../../helpers/ws-client.ts'

const paths = ['/connection/http_stream', '/connection/sse', '/emulation']

async function codeOf (response: Response): Promise<string> {
  return ((await response.json()) as { code: string }).code
}

t.test('without the option there is no route, and nothing of it is loaded', async (t) => {
  const { url } = await startApp(t)
  for (const path of paths) {
    for (const method of ['GET', 'POST', 'OPTIONS']) t.equal((await fetch(httpOf(url) + path, { method })).status, 404)
  }
})

t.test('the head of a stream keeps proxies from holding it back, and caches from keeping it', async (t) => {
  const { url } = await startApp(t, { fallback: true })
  const stream = await openStream(t, url)
  const { status, headers } = stream.response
  t.equal(status, 200)
  t.match(Object.fromEntries(headers), {
    'content-type': 'application/json',
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
    'content-length': undefined,
    etag: undefined,
    'content-encoding': undefined
  })
  const { connect } = await stream.reply(1)
  t.match(connect, { session: /^[\da-f-]{36}$/, node: /./, ping: 25, pong: true })
  t.not(connect.session, connect.client, 'others may see the id of a connection')
  const events = await fetch(`${httpOf(url)}/connection/sse?cf_connect=${encodeURIComponent('{"id":1,"connect":{}}')}`)
  t.equal(events.headers.get('content-type'), 'text/event-stream')
  await events.body!.cancel()
})

t.test('no cache keeps an answer: another client of the same URL may be admitted', async (t) => {
  const { url } = await startApp(t, { fallback: true, channels: { news: { subscribe: true } } })
  const requests: ReadonlyArray<readonly [status: number, path: string, init?: RequestInit]> = [
    [204, '/connection/uni_sse?channel=news:a', { headers: { 'last-event-id': 'end' } }],
    [404, '/connection/uni_sse?channel=other:a'],
    [400, '/connection/sse'],
    [403, '/connection/sse', { headers: { origin: 'https://evil.example' } }],
    [405, '/connection/http_stream'],
    [415, '/emulation', { method: 'POST', body: '{}', headers: { 'content-type': ';' } }]
  ]
  for (const [status, path, init] of requests) {
    const response = await fetch(httpOf(url) + path, init)
    t.equal(response.status, status, path)
    t.equal(response.headers.get('cache-control'), 'no-store', path)
  }
})

t.test('every other method is refused', async (t) => {
  const { url } = await startApp(t, { fallback: true })
  for (const [path, allowed] of [['/connection/http_stream', 'POST'], ['/connection/sse', 'GET'], ['/emulation', 'POST']] as const) {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'].filter(one => one !== allowed)) {
      const response = await fetch(httpOf(url) + path, { method })
      t.match(response, { status: 405 }, `${method} ${path}`)
      t.equal(response.headers.get('allow'), `${allowed}, OPTIONS`)
      if (method !== 'HEAD') t.equal(await codeOf(response), 'FST_CRWS_METHOD')
    }
    t.match(await rejected(url + path), { statusCode: 426 }, 'no upgrade gets past the limits')
  }
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/connection/http_stream').replace('GET', 'POST'))
  t.match((await raw.ended).toString(), /^HTTP\/1.1 426 /)
})

t.test('a stream needs the connect command', async (t) => {
  const { app, url } = await startApp(t, { fallback: true })
  for (const body of ['', undefined]) {
    const response = await fetch(`${httpOf(url)}/connection/http_stream`, { method: 'POST', ...(body !== undefined && { body }) })
    t.equal(response.status, 400)
    t.equal(await codeOf(response), 'FST_CRWS_STREAM_REQUEST')
  }
  for (const query of ['', '?cf_connect=', '?cf_connect=a&cf_connect=b']) {
    t.equal((await fetch(`${httpOf(url)}/connection/sse${query}`)).status, 400, query)
  }
  t.equal([...app.realtime.connections].length, 0)
  for (const connect of ['nonsense', '{"id":1,"rpc":{"method":"a"}}', '{"id":1}']) {
    const stream = await openStream(t, url, connect)
    t.match(await stream.push('disconnect'), { code: 3501, reason: 'bad request' }, connect)
    t.notOk((await stream.push('disconnect')).reconnect)
    await stream.ended
  }
})

t.test('what is too large is refused, whether the client says so or not', async (t) => {
  const onMessage: Options['onMessage'] = (connection, data) => { connection.send(data) }
  const { url } = await startApp(t, { fallback: true, maxPayload: 1_000, onMessage })
  const large = JSON.stringify({ id: 1, connect: { data: 'x'.repeat(4_000) } })
  for (const path of ['/connection/http_stream', '/emulation']) {
    for (const body of [large, new Blob([large]).stream()]) {
      const response = await fetch(httpOf(url) + path, { method: 'POST', body, duplex: 'half' } as RequestInit)
      t.equal(response.status, 413)
      t.match(await response.json(), { code: 'FST_CRWS_BODY_TOO_LARGE', message: /at most 1000 bytes/ })
    }
  }
  const stream = await openStream(t, url)
  const data = 'x'.repeat(1_000 - '{"send":{"data":""}}'.length)
  t.equal((await stream.post({ send: { data } })).status, 204, 'as large as a message may be')
  t.equal((await stream.post({ send: { data: `${data}x` } })).status, 413)
  t.equal((await stream.push('message')).data, data)
  const quotes = { send: { data: '"'.repeat(400) } }
  t.equal((await stream.post(quotes)).status, 204, 'quotes take more room in a post')
})

t.test('a post that is none is refused', async (t) => {
  const { url } = await startApp(t, { fallback: true })
  const stream = await openStream(t, url)
  const { session, node } = (await stream.reply(1)).connect
  for (const body of ['', 'nonsense', '[]', 'null', '{}', { session, node }, { session, node, data: '' }, { session, node, data: {} }, { session, data: '{}' }, { node, data: '{}' }, { session: 1, node, data: '{}' }]) {
    const response = await post(url, body)
    t.equal(response.status, 400, JSON.stringify(body))
    t.equal(await codeOf(response), 'FST_CRWS_STREAM_REQUEST')
  }
  t.equal((await post(url, JSON.stringify({ session, node, data: '{}' }), { 'content-type': 'application/octet-stream' })).status, 400)
  t.equal((await post(url, { session, node, data: '{}' }, { 'content-type': 'text/plain' })).status, 204, 'any other type is JSON')
})

t.test('a post for a stream that is not there makes the client connect again', async (t) => {
  const { app, url } = await startApp(t, { fallback: true })
  const stream = await openStream(t, url)
  const { session, node } = (await stream.reply(1)).connect
  for (const body of [{ session: 'invented', node, data: '{}' }, { session, node: 'invented', data: '{}' }, { session: connectionsOf(app)[0]!.id, node, data: '{}' }]) {
    const response = await post(url, body)
    t.equal(response.status, 404)
    t.equal(await codeOf(response), 'FST_CRWS_SESSION_UNKNOWN')
  }
  stream.abort()
  await until(() => connectionsOf(app).length === 0, 'the client has gone')
  t.equal((await post(url, { session, node, data: '{}' })).status, 404)
})

t.test('a post for a stream that was ended is taken: its client reads there what to do', async (t) => {
  const { app, url } = await startApp(t, { fallback: true })
  const stream = await openStream(t, url)
  const { session, node } = (await stream.reply(1)).connect
  for (const connection of app.realtime.connections) connection.close(4500, 'stay away')
  await stream.ended
  await until(() => connectionsOf(app).length === 0, 'it has ended')
  t.equal((await post(url, { session, node, data: '{}' })).status, 204)
})

t.test('whoever invents sessions is limited by address, but not those who have a stream', async (t) => {
  const { url } = await startApp(t, { fallback: true, rateLimit: { connections: { max: 3, timeWindow: '1h' } } })
  const stream = await openStream(t, url)
  const { node } = (await stream.reply(1)).connect
  for (let i = 0; i < 6; i++) t.equal((await stream.post({})).status, 204)
  for (let i = 0; i < 3; i++) t.equal((await post(url, { session: 'invented', node, data: '{}' })).status, 404)
  const response = await post(url, { session: 'invented', node, data: '{}' })
  t.equal(response.status, 429)
  t.equal(await codeOf(response), 'FST_CRWS_POST_RATE')
  const { url: unlimited } = await startApp(t, { fallback: true, rateLimit: false })
  t.equal((await post(unlimited, { session: 'invented', node, data: '{}' })).status, 404)
})

t.test('posts that nobody takes are limited by address, also where there was a stream, or is one', async (t) => {
  const rateLimit: Options['rateLimit'] = { connections: { max: 3, timeWindow: '1h' } }
  const { app, url } = await startApp(t, { fallback: true, rateLimit })
  const stream = await openStream(t, url)
  await stream.reply(1)
  for (const connection of connectionsOf(app)) connection.close(4500, 'stay away')
  await stream.ended
  for (let i = 0; i < 3; i++) t.equal((await stream.post({})).status, 204)
  t.equal((await stream.post({})).status, 429, 'its client has been told')

  const slow = await startApp(t, { fallback: true, rateLimit, onMessage: () => new Promise(() => {}) })
  const full = await openStream(t, slow.url)
  const send = () => full.post({ send: { data: 1 } })
  for (let i = 0; i <= 64; i++) await send()
  const codes = await Promise.all(Array.from({ length: 67 }, async () => {
    const response = await send()
    return response.status === 429 ? codeOf(response) : response.status
  }))
  const times = (code: string | number) => codes.filter(one => one === code).length
  t.strictSame([204, 'FST_CRWS_POST_LIMIT', 'FST_CRWS_POST_RATE'].map(times), [64, 3, 0], 'what a stream takes is not counted while it waits')
  t.equal(await codeOf(await send()), 'FST_CRWS_POST_RATE')
})

t.test('streams have the admission of upgrades', async (t) => {
  const { logger, entries } = collectLog()
  const options = { fallback: true, maxConnections: 1, rateLimit: { connections: { max: 2, timeWindow: '1h' } } }
  const { app, url } = await startApp(t, options, { logger })
  const stream = await openStream(t, url)
  await stream.reply(1)
  t.match(await (await fetch(`${httpOf(url)}/health`)).json(), { connections: 1 })
  const full = await openStream(t, url)
  t.equal(full.response.status, 503)
  t.ok(Number(full.response.headers.get('retry-after')) > 0)
  t.equal(await codeOf(full.response), 'FST_CRWS_CAPACITY')
  const foreign = await openStream(t, url, undefined, { origin: 'https://elsewhere.example' })
  t.equal(foreign.response.status, 403)
  t.equal(await codeOf(foreign.response), 'FST_CRWS_ORIGIN')
  stream.abort()
  await until(() => connectionsOf(app).length === 0, 'there is room')
  const again = await openStream(t, url)
  await again.reply(1)
  again.abort()
  await until(() => connectionsOf(app).length === 0, 'there is room again')
  const often = await openStream(t, url)
  t.equal(often.response.status, 429)
  t.equal(await codeOf(often.response), 'FST_CRWS_RATE_LIMIT')
  const rejections = entries.filter(({ event }) => event === 'connection.rejected')
  t.strictSame(rejections.map(({ error, path }) => [error, path]), ['capacity', 'origin', 'rate_limit'].map(error => [error, '/connection/http_stream']))
  t.match(rejections[0]!.msg, /^Connection to \/connection\/http_stream rejected/)
})

t.test('authenticate decides before a stream opens', async (t) => {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, {
    fallback: true,
    async authenticate ({ headers }) {
      await Promise.resolve()
      if (headers.authorization === undefined) throw new Error('no login')
      if (headers.authorization === 'banned') throw new ClientError(4501, 'banned')
      return { user: headers.authorization }
    },
    onConnect: (connection, request) => ({ data: { user: connection.user, path: request.url } })
  }, { logger })
  const none = await openStream(t, url)
  t.equal(none.response.status, 401)
  t.equal(await codeOf(none.response), 'FST_CRWS_UNAUTHORIZED')
  const banned = await openStream(t, url, undefined, { authorization: 'banned' })
  t.match(await banned.push('disconnect'), { code: 4501, reason: 'banned' }, 'an SDK reads the code, and stays away')
  await banned.ended
  const ada = await openStream(t, url, undefined, { authorization: 'ada' })
  t.match(await ada.reply(1), { connect: { data: { user: 'ada', path: '/connection/http_stream' } } })
  t.equal([...app.realtime.connections].length, 1)
  const rejections = entries.filter(({ event }) => event === 'connection.rejected')
  t.match(rejections, [{ error: 'auth' }, { error: 'auth', code: 4501 }])
  t.match(entries.find(({ event }) => event === 'connection.opened'), { user: 'ada', protocol: 'json', transport: 'http_stream', msg: 'HTTP connection of user ada opened' })
})

t.test('a client that leaves while authenticate works holds no place', async (t) => {
  let identify: ((identity: { user: string }) => void) | undefined
  const { app, url } = await startApp(t, {
    fallback: true, maxConnections: 1, authenticate: () => new Promise(resolve => { identify = resolve })
  })
  const leaving = new AbortController()
  const left = fetch(`${httpOf(url)}/connection/http_stream`, { method: 'POST', body: '{"id":1,"connect":{}}', signal: leaving.signal })
  const late = await until(() => identify, 'authenticate was asked')
  t.equal((await openStream(t, url)).response.status, 503, 'it holds the place')
  identify = undefined
  leaving.abort()
  await t.rejects(left)
  late!({ user: 'ada' })
  const next = await until(async () => {
    const opening = openStream(t, url)
    if (await Promise.race([opening.then(() => true), until(() => identify, 'authenticate was asked').then(() => false)])) return undefined
    identify!({ user: 'eve' })
    return opening
  }, 'there is room')
  await next!.reply(1)
  t.strictSame([...app.realtime.connections].map(({ user }) => user), ['eve'])
})

t.test('pages of allowed origins may read what the routes answer, errors too', async (t) => {
  const page = 'https://app.example'
  const { url } = await startApp(t, { fallback: true, allowedOrigins: [page] })
  for (const path of paths) {
    const asked = { origin: page, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type,x-mine' }
    const allowed = await fetch(httpOf(url) + path, { method: 'OPTIONS', headers: asked })
    t.equal(allowed.status, 204)
    t.match(Object.fromEntries(allowed.headers), {
      'access-control-allow-origin': page,
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': path === '/connection/sse' ? 'GET' : 'POST',
      'access-control-allow-headers': 'content-type,x-mine',
      'access-control-max-age': '300',
      vary: 'origin'
    })
    const refused = await fetch(httpOf(url) + path, { method: 'OPTIONS', headers: { ...asked, origin: 'https://elsewhere.example' } })
    t.equal(refused.status, 403)
    t.equal(refused.headers.get('access-control-allow-origin'), null)
    t.equal(refused.headers.get('vary'), 'origin')
  }
  t.equal((await fetch(`${httpOf(url)}/emulation`, { method: 'OPTIONS', headers: { origin: page } })).headers.get('access-control-allow-headers'), 'content-type')
  const stream = await openStream(t, url, undefined, { origin: page })
  t.equal(stream.response.headers.get('access-control-allow-origin'), page)
  const lost = await post(url, { session: 'x', node: 'x', data: '{}' }, { origin: page })
  t.equal(lost.status, 404)
  t.equal(lost.headers.get('access-control-allow-origin'), page)
  t.equal((await post(url, {}, { origin: 'https://elsewhere.example' })).status, 403)
  for (const site of ['cross-site', 'same-site']) {
    const image = await fetch(`${httpOf(url)}/connection/sse?cf_connect={}`, { headers: { 'sec-fetch-site': site } })
    t.equal(image.status, 403, 'an image of another page opens no stream')
  }
  const link = await fetch(`${httpOf(url)}/connection/sse?cf_connect={}`, { headers: { 'sec-fetch-site': 'none' } })
  t.match(await link.json(), { statusCode: 400, message: /a link cannot open it/ })
})

t.test('with any origin allowed no page sends cookies', async (t) => {
  const { url } = await startApp(t, { fallback: true, allowedOrigins: '*' })
  const stream = await openStream(t, url, undefined, { origin: 'https://any.example' })
  t.equal(stream.response.headers.get('access-control-allow-origin'), '*')
  t.equal(stream.response.headers.get('access-control-allow-credentials'), null)
})

t.test('the routes have the prefix and the hooks of the app, whose other routes parse as before', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const seen: string[] = []
  await app.register(async (scope) => {
    scope.addHook('onRequest', async ({ method, url }, reply) => {
      seen.push(`${method} ${url.split('?')[0]}`)
      reply.header('x-hook', 'ran').header('vary', 'accept')
    })
    await scope.register(cloudRunWebSocket, { fallback: { httpStreamPath: '/stream', ssePath: false, emulationPath: '/posts' }, shutdown: false })
    scope.post('/json', async ({ body }) => body)
  }, { prefix: '/v1' })
  await app.listen({ port: 0 })
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const stream = await fetch(`${url}/v1/stream`, { method: 'POST', body: '{"id":1,"connect":{}}' })
  t.equal(stream.headers.get('x-hook'), 'ran')
  t.equal(stream.headers.get('vary'), 'accept, origin')
  t.equal((await fetch(`${url}/v1/connection/sse`)).status, 404)
  t.equal((await fetch(`${url}/v1/posts`, { method: 'POST', body: '{}' })).status, 400)
  const json = await fetch(`${url}/v1/json`, { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } })
  t.strictSame(await json.json(), { a: 1 })
  t.equal((await fetch(`${url}/v1/json`, { method: 'POST', body: 'x', headers: { 'content-type': 'application/x-mine' } })).status, 415)
  t.ok(seen.includes('POST /v1/stream'))
  await stream.body!.cancel()
})

t.test('the commands in the query of sse are in no log', async (t) => {
  const { logger, entries } = collectLog()
  const { url } = await startApp(t, { fallback: true }, { logger })
  const client = streamClient(t, url, 'sse', 'json', { token: 'hush' })
  await client.disconnected()
  t.ok(entries.some(({ req }) => req?.url === '/connection/sse'))
  t.notMatch(JSON.stringify(entries), /hush|cf_connect/)
})

t.test('a body that does not come is given up', async (t) => {
  const { app, url } = await startApp(t, { fallback: true })
  const raw = await openRaw(t, url)
  const { setTimeout } = globalThis
  t.intercept(globalThis, 'setTimeout', { value: (run: () => void, ms: number) => setTimeout(run, Math.min(ms, 100)) })
  raw.socket.write('POST /emulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{')
  const { now } = Date
  await once(app.server, 'request')
  t.intercept(Date, 'now', { value: () => now() + 10_000 })
  t.match((await raw.ended).toString(), /^HTTP\/1.1 408 [^]*FST_CRWS_BODY_TIMEOUT/)
  const gone = await openRaw(t, url)
  gone.socket.write('POST /emulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{')
  gone.socket.end()
  await once(gone.socket, 'close')
})

t.test('no more bodies are on their way than there may be connections', async (t) => {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { fallback: true, maxConnections: 2 }, { logger })
  const head = 'POST /emulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{'
  const slow = [await openRaw(t, url), await openRaw(t, url)]
  for (const { socket } of slow) {
    socket.write(head)
    await once(app.server, 'request')
  }
  await until(async () => (await post(url, {})).status === 503, 'there is no room')
  const refused = await post(url, {})
  t.match(await refused.json(), { code: 'FST_CRWS_BODIES' })
  t.match(refused.headers.get('retry-after'), /^[1-5]$/)
  t.notOk(entries.some(({ level }) => level >= 50), 'clients have caused it, and may go on')
  slow[0]!.socket.destroy()
  await until(async () => (await post(url, {})).status === 400, 'there is room')
  const large = await post(url, 'x'.repeat(200_000))
  t.equal(large.status, 413)
  t.equal((await post(url, {})).status, 400)
})

for (const version of [1, 2] as const) {
  t.test(`a client that has gone before its body is read takes no room from the bodies of others, over HTTP/${version}`, async (t) => {
    const app = Fastify({ http2: version === 2 } as object)
    t.teardown(() => app.close())
    let leave = () => {}
    let went = false
    app.addHook('onRequest', async ({ headers, raw }) => {
      if (headers['x-leaves'] === undefined) return
      const closed = new Promise(resolve => ((raw as { stream?: Duplex }).stream ?? raw.socket).once('close', resolve))
      leave()
      await closed
      went = true
    })
    await app.register(cloudRunWebSocket, { fallback: true, maxConnections: 1, shutdown: { signals: false, timeout: 500 } })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
    const session = version === 2 ? connectHttp2(httpOf(url)) : undefined
    t.teardown(() => session?.destroy())
    const posted = { ':method': 'POST', ':path': '/emulation', 'content-type': 'application/json' }
    if (session === undefined) {
      const { socket } = await openRaw(t, url)
      leave = () => { socket.destroy() }
      socket.write('POST /emulation HTTP/1.1\r\nHost: localhost\r\nX-Leaves: 1\r\nContent-Length: 100\r\n\r\n{')
    } else {
      const leaving = session.request({ ...posted, 'x-leaves': '1' })
      leave = () => { leaving.close(constants.NGHTTP2_CANCEL) }
      leaving.write('{')
    }
    await until(() => went, 'it has gone, and its request goes on')
    if (session === undefined) return t.equal((await post(url, {})).status, 400)
    const [headers] = await once(session.request(posted).end('{}'), 'response') as [Record<string, unknown>]
    t.equal(headers[':status'], 400)
  })
}
