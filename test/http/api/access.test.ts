import Fastify from 'fastify'
import type { FastifyServerOptions } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket, { ClientError } from '../../../index.ts'
import type { ApiOptions, Options } from '../../../index.ts'
import { MemoryPresence } from '../../../lib/backends/memory/presence.ts'
import { startApp } from '../../helpers/app.ts'
import { collectLog } from '../../helpers/log.ts'
import { connect } from '../../helpers/ws-client.ts'

t.setTimeout(60_000)

const [apiKey, nextKey] = ['the-key-of-the-backend', 'the-key-that-follows-it'] as const
const quiet: Options = { redis: false, shutdown: false, apiPath: '/api', api: { key: [apiKey, nextKey] } }
const body = { channel: 'news', data: 1 }

async function start (t: Test, options: Options = {}, fastifyOptions: FastifyServerOptions = {}) {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, { ...quiet, ...options } as Options, { logger: { ...logger, level: 'info' }, disableRequestLogging: true, ...fastifyOptions })
  const post = (headers: Record<string, string>, payload: string | object = body, url = '/api/publish') => app.inject({ method: 'POST', url, headers, payload })
  return { app, post, entries, events: (event: string) => entries.filter(entry => entry.event === event) }
}

t.test('only who has one of the keys may call, in either header; keys are nowhere in the log', async (t) => {
  const { post, entries, events } = await start(t)
  const granted = { statusCode: 200, body: '{"result":{}}' }
  t.match(await post({ 'x-api-key': apiKey }), granted)
  t.match(await post({ 'x-api-key': nextKey }), granted)
  t.match(await post({ authorization: `apikey ${apiKey}` }), granted)
  t.match(await post({ authorization: `APIKEY  ${nextKey}` }), granted)
  const wrong = [
    {}, { 'x-api-key': '' }, { 'x-api-key': apiKey.slice(1) }, { 'x-api-key': `${apiKey}x` }, { 'x-api-key': apiKey.toUpperCase() }, { 'x-api-key': 'ü' },
    { authorization: `Bearer ${apiKey}` }, { authorization: apiKey }, { 'x-api-key': 'wrong', authorization: `apikey ${apiKey}` }
  ]
  for (const headers of wrong) {
    const answered = await post(headers as Record<string, string>)
    t.match(answered, { statusCode: 401 }, JSON.stringify(headers))
    t.match(answered.json(), { code: 'FST_CRWS_API_KEY', message: /X-API-Key/ })
  }
  t.equal((await post({}, body, `/api/publish?api_key=${apiKey}`)).statusCode, 401, 'a key in a URL would end up in logs')
  t.match(events('api.refused'), [{ level: 40, status: 401, code: 'FST_CRWS_API_KEY', msg: /key is missing or wrong/ }], 'once a minute, however many come')
  t.equal(events('api.refused').length, 1)
  t.notMatch(JSON.stringify(entries), /backend|follows/)
})

t.test('what is not a request to the API is answered with a coded error', async (t) => {
  const { app, post } = await start(t, {}, { bodyLimit: 200 })
  const key = { 'x-api-key': apiKey }
  const refused = async (answer: ReturnType<typeof post>, statusCode: number, code: string) => {
    const answered = await answer
    t.match(answered, { statusCode })
    t.match(answered.json(), { statusCode, code })
  }
  await refused(post(key, '{'), 400, 'FST_CRWS_API_REQUEST')
  await refused(post(key, ''), 400, 'FST_CRWS_API_REQUEST')
  await refused(post(key, '{"a":1}\n{', '/api'), 400, 'FST_CRWS_API_REQUEST')
  await refused(post(key, '{"params":{}}', '/api'), 400, 'FST_CRWS_API_REQUEST')
  await refused(post(key, '{"commands":1}', '/api/batch'), 400, 'FST_CRWS_API_REQUEST')
  await refused(post(key, '1', '/api/batch'), 400, 'FST_CRWS_API_REQUEST')
  await refused(post(key, { channel: 'news', data: 'x'.repeat(200) }), 413, 'FST_ERR_CTP_BODY_TOO_LARGE')
  for (const method of ['GET', 'PUT', 'DELETE', 'OPTIONS', 'HEAD'] as const) t.equal((await app.inject({ method, url: '/api/publish', headers: key })).statusCode, 404)
  const { headers } = await post({ ...key, origin: 'https://example.com' })
  t.notOk(Object.keys(headers).some(name => name.startsWith('access-control')), 'no page may call it')
  for (const type of ['application/x-www-form-urlencoded', 'text/plain']) t.match(await post({ ...key, 'content-type': type }, JSON.stringify(body)), { statusCode: 200 }, `as curl sends it: ${type}`)
})

t.test('a request has so many commands at most', async (t) => {
  const { post } = await start(t)
  const answered = await post({ 'x-api-key': apiKey }, { commands: Array(10_001).fill({ info: {} }) }, '/api/batch')
  t.match(answered.json(), { code: 'FST_CRWS_API_REQUEST', message: /at most 10000 commands/ })
})

t.test('an upgrade of a route of the API is refused', async (t) => {
  const { url } = await startApp(t, quiet)
  await t.rejects(connect(t, `${url}/api/publish`), /404/)
})

t.test('authorize decides about each request before its body is read; only true lets it through', async (t) => {
  let decide: NonNullable<Extract<ApiOptions, { authorize: unknown }>['authorize']> = () => true
  const { post, events } = await start(t, { api: { authorize: request => decide(request) } })
  const json = { 'content-type': 'application/json' }
  const hanging = (() => {
    decide = () => new Promise(() => {})
    return post(json)
  })()
  await new Promise(setImmediate)
  decide = request => request.headers.cookie === 'a=b'
  t.match(await post({ ...json, cookie: 'a=b' }), { statusCode: 200 })
  t.match((await post(json)).json(), { statusCode: 403, code: 'FST_CRWS_API_FORBIDDEN' })
  decide = (async () => {}) as unknown as typeof decide
  t.equal((await post(json)).statusCode, 403, 'what is forgotten allows nothing')
  decide = async () => { throw new Error('a secret') }
  t.match((await post(json)).json(), { statusCode: 401, code: 'FST_CRWS_UNAUTHORIZED', message: /^(?!.*secret)/ })
  decide = () => { throw new ClientError(402, 'pay first') }
  t.match((await post(json)).json(), { statusCode: 402, message: /pay first/ })
  t.strictSame(events('api.error'), [], 'none of this is an error of the app')
  decide = () => (undefined as unknown as { a: { b: boolean } }).a.b
  t.match((await post(json, '{')).json(), { statusCode: 500, code: 'FST_CRWS_AUTHENTICATE_FAILED' })
  t.match(events('api.error'), [{ level: 50, msg: /^api\.authorize failed: /, err: { stack: /access\.test/ } }])
  decide = () => true
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
    t.match((await post({ 'content-type': type, cookie: 'a=b' }, JSON.stringify(body))).json(), { statusCode: 415, code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE' }, `a form of another site may send ${type}`)
  }
  t.match((await hanging).json(), { statusCode: 503, code: 'FST_CRWS_AUTHENTICATE_TIMEOUT' })
})

t.test('failed calls have a log entry, once a minute for each text; calls that succeed have none', async (t) => {
  const { post, events } = await start(t)
  const key = { 'x-api-key': apiKey }
  for (let i = 0; i < 3; i++) {
    await post(key, { channel: 'chat:1', data: 1 })
    await post(key)
    await post(key, {}, '/api/anything')
  }
  t.match(events('api.failed'), [
    { level: 40, method: 'publish', error: 102, reason: 'the option channels has no namespace chat', msg: /A call of publish over HTTP was answered with error 102/ },
    { method: 'an unknown method', error: 104 }
  ])
  t.equal(events('api.failed').length, 2)
})

t.test('a bug is told to the log with its stack, and to nobody else', async (t) => {
  const { post, events } = await start(t, { channels: { chat: { presence: true } } })
  t.intercept(MemoryPresence.prototype, 'list', { value: async () => { throw new Error('a bug') } })
  t.match((await post({ 'x-api-key': apiKey }, { channel: 'chat:1' }, '/api/presence')).json(), { error: { code: 100, message: 'internal server error' } })
  t.match(events('api.error'), [{ level: 50, method: 'presence', msg: 'A call of presence over HTTP failed: a bug', err: { stack: /access\.test/ } }])
})

t.test('hooks of the app run, its error handler has what is unexpected, and its own bodies are parsed as before', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (request, reply) => { reply.header('x-hook', request.url) })
  app.addHook('preHandler', async request => { if (request.headers['x-fail'] !== undefined) throw new Error('the hook failed') })
  app.setErrorHandler((_error, _request, reply) => { reply.code(500).send('mine') })
  await app.register(async (scope) => {
    await scope.register(cloudRunWebSocket, { ...quiet, logLevel: 'warn', logSerializers: { a: String } })
    scope.post('/echo', async request => request.body)
    scope.post('/api/mine', async () => 'mine')
  }, { prefix: '/v1' })
  const headers = { 'x-api-key': apiKey }
  t.match(await app.inject({ method: 'POST', url: '/v1/api/publish', headers, payload: body }), { statusCode: 200, headers: { 'x-hook': '/v1/api/publish' } })
  t.strictSame((await app.inject({ method: 'POST', url: '/v1/echo', payload: body })).json(), body)
  t.equal((await app.inject({ method: 'POST', url: '/v1/api/mine' })).body, 'mine', 'routes of the app come first')
  t.match(await app.inject({ method: 'POST', url: '/v1/api/publish', headers: { ...headers, 'x-fail': '1' }, payload: body }), { statusCode: 500, body: 'mine' })
})

t.test('without apiPath there is no route', async (t) => {
  const { app } = await startApp(t, { redis: false })
  t.equal((await app.inject({ method: 'POST', url: '/api/publish', payload: body })).statusCode, 404)
})

t.test('a route that the app has already is named', async (t) => {
  for (const url of ['/api', '/api/*']) {
    const app = Fastify()
    t.teardown(() => app.close())
    app.post(url, async () => 'mine')
    await t.rejects(async () => await app.register(cloudRunWebSocket, quiet), { code: 'FST_CRWS_ROUTE_TAKEN', message: `The route POST ${url} already exists. Choose another path with the option apiPath, or leave the route out with apiPath: false` })
  }
})
