import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import cloudRunWebSocket, { ClientError } from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { events } from '../../helpers/event-source.ts'
import { collectLog } from '../../helpers/log.ts'
import { httpOf } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

const history = { size: 100, ttl: '10m' }
const open: Options = { fallback: true, channels: { '': { subscribe: true, history }, live: { subscribe: true }, room: { subscribe: true, joinLeave: true }, closed: {} } }

t.test('a client gets what is published in its channels, in the envelope of the plain route', async (t) => {
  const { app, url } = await startApp(t, open)
  const client = await events(t, url, ['news', 'live:a'])
  t.equal(client.status, 200)
  t.match(client.headers['content-type'], /^text\/event-stream/)
  t.equal(client.headers['cache-control'], 'no-store, no-transform')
  t.equal(client.headers['x-accel-buffering'], 'no')
  const [connection] = connectionsOf(app)
  const { type, data, lastEventId } = await client.event(0)
  t.equal(type, 'connected')
  t.match(data, { client: connection!.id, channels: { news: { offset: 0, epoch: /./ }, 'live:a': {} } })
  t.match(lastEventId, /^1~/)
  t.ok(client.retry! >= 1_000 && client.retry! <= 3_000)
  t.equal(connection!.transport, 'uni_sse')
  t.equal(connection!.protocol, 'plain')

  await app.realtime.publish('news', { text: 'one' }, { tags: { lang: 'en' } })
  await app.realtime.publish('live:a', 'two\nlines\r\nand: more')
  await app.realtime.publish('live:a', Buffer.from([1, 2]))
  await client.event(3)
  const { epoch } = data.channels.news
  t.strictSame(client.events.slice(1).map(({ type, data }) => [type, data]), [
    ['message', { channel: 'news', offset: 1, epoch, data: { text: 'one' }, tags: { lang: 'en' } }],
    ['message', { channel: 'live:a', data: 'two\nlines\r\nand: more' }],
    ['message', { channel: 'live:a', data: 'AQI=', encoding: 'base64' }]
  ])
})

t.test('joins, leaves and the end of a subscription arrive like publications', async (t) => {
  const { app, url } = await startApp(t, { ...open, authenticate: ({ headers }) => ({ user: String(headers.user) }) })
  const ada = await events(t, url, ['room:1', 'news'], { headers: { user: 'ada' } })
  await ada.event(1)
  const bob = await events(t, url, ['room:1'], { headers: { user: 'bob' } })
  await ada.event(2)
  bob.close()
  await ada.event(3)
  await app.realtime.unsubscribe('ada', 'room:1')
  await app.realtime.unsubscribe('ada', 'news')
  await ada.event(5)
  const told = ada.events.slice(1).map(({ data: { channel, join, leave, unsubscribed } }) => {
    return [channel, join?.user, leave?.user, unsubscribed?.code]
  })
  t.strictSame(told, [
    ['room:1', 'ada', undefined, undefined],
    ['room:1', 'bob', undefined, undefined],
    ['room:1', undefined, 'bob', undefined],
    ['room:1', undefined, undefined, 2000],
    ['news', undefined, undefined, 2000]
  ])
  t.equal(ada.lastEventId, '1', 'it has no position any more')
})

t.test('what only the app sends or decides is seen and goes into the ids', async (t) => {
  const { app, url } = await startApp(t, {
    ...open,
    onConnect: async connection => {
      await connection.subscribe('news')
      return { data: { hello: connection.id } }
    }
  })
  await app.realtime.publish('other', 'old')
  const client = await events(t, url, [])
  const { data } = await client.event(0)
  const [connection] = connectionsOf(app)
  t.strictSame(data.data, { hello: connection!.id })
  t.ok(data.channels.news.epoch)
  t.equal(connection!.send({ just: 'you' }), true)
  t.equal(connection!.send(Buffer.from([1])), true)
  await connection!.subscribe('other', { since: { offset: 0, epoch: '' } })
  await client.event(3)
  t.strictSame(client.events.slice(1).map(({ type, data }) => [type, data.data, data.encoding]), [
    ['send', { just: 'you' }, undefined], ['send', 'AQ==', 'base64'], ['message', 'old', undefined]
  ])
  t.equal(client.lastEventId.split('~').length, 3, 'both channels are in the id')
  t.match(await connection!.subscribe('another'), {})
  await until(() => client.lastEventId.split('~').length === 4, 'the id of a channel in which nothing was published')
  t.equal(client.events.length, 4)
  t.rejects(connection!.request('anything'), { code: 'FST_CRWS_REQUEST_UNSUPPORTED' })
  client.close()
  await until(() => connectionsOf(app).length === 0, 'the client has gone')

  await app.realtime.publish('news', 'while it was away')
  const again = await events(t, url, [], { lastEventId: client.lastEventId })
  await again.event(1)
  t.match(again.events[0]!.data.channels, { news: { recovered: true } })
  t.strictSame(again.data(), ['while it was away'])
})

t.test('the id of the first event brings back a client that has seen nothing else', async (t) => {
  const { app, url } = await startApp(t, open)
  await app.realtime.publish('news', 0)
  const first = await events(t, url, ['news'])
  const { lastEventId } = await first.event(0)
  first.close()
  await until(() => connectionsOf(app).length === 0, 'the client has gone')
  await app.realtime.publish('news', 1)
  await app.realtime.publish('news', 2)
  const second = await events(t, url, ['news'], { lastEventId })
  await app.realtime.publish('news', 3)
  await second.event(3)
  t.strictSame(second.data(), [1, 2, 3])
  t.match(second.events[0]!.data.channels.news, { recovered: true, offset: 1 })
  t.equal(second.events[0]!.lastEventId, lastEventId)
})

t.test('large publications that were missed come without a pause, and live ones after them', async (t) => {
  const { app, url } = await startApp(t, { ...open, maxBufferedBytes: 8_000_000 })
  const client = await events(t, url, ['news', 'other'])
  await client.event(0)
  client.close()
  const missed = [1, 2, 3, 4, 5].map(n => `${n}`.repeat(100_000))
  for (const text of missed) await app.realtime.publish('news', text)
  const again = await events(t, url, ['news', 'other'], { lastEventId: client.lastEventId })
  await again.event(missed.length) // with Node.js 22 a response that was corked never drained
  await app.realtime.publish('other', 'live')
  await again.event(missed.length + 1)
  t.strictSame(again.data(), [...missed, 'live'])
})

t.test('a channel that is refused is an HTTP status, and there is no stream', async (t) => {
  const ended: string[] = []
  const { app, url } = await startApp(t, {
    fallback: true,
    authenticate: () => ({ user: '42' }),
    channels: {
      '': { subscribe: true },
      closed: {},
      token: { subscribe: true, token: true },
      rule: { subscribe: (_connection, channel) => { if (channel === 'rule:fails') throw new Error('a bug'); return channel === 'rule:ok' } }
    },
    onSubscribe: (_connection, channel) => {
      if (channel === 'no') return false
      if (channel === 'teapot') throw new ClientError(418, 'I am a teapot')
      if (channel === 'later') throw new ClientError(4000, 'come back')
      if (channel === 'never') throw new ClientError(4501, 'stay away')
      if (channel === 'app') throw new ClientError(1001, 'full')
      if (channel === 'past') return { expiresAt: 1 }
    },
    onDisconnect: (_connection, { code, cause }) => { ended.push(`${code} ${cause}`) }
  })
  const cases: Array<[channels: string[], status: number, text: RegExp, end: string]> = [
    [['x:1'], 404, /unknown channel \(102\)/, '1008 policy'],
    [['news', 'closed:1', 'x:1'], 403, /closed:1 .*permission denied \(103\)/, '1008 policy'],
    [['token:1'], 403, /\(103\)/, '1008 policy'],
    [['rule:no'], 403, /\(103\)/, '1008 policy'],
    [['rule:fails'], 503, /internal server error \(100\)/, '1011 error'],
    [['no'], 403, /\(103\)/, '1008 policy'],
    [['#43'], 403, /\(103\)/, '1008 policy'],
    [['past'], 403, /expired \(110\)/, '1008 policy'],
    [['teapot'], 418, /I am a teapot \(418\)/, '1008 policy'],
    [['app'], 403, /full \(1001\)/, '1008 policy'],
    [['later'], 503, /come back \(4000\)/, '4000 server'],
    [['never'], 403, /stay away \(4501\)/, '4501 server']
  ]
  for (const [channels, status, text, end] of cases) {
    const { status: got, body } = await events(t, url, channels)
    t.equal(got, status, channels.join())
    t.match(body, { statusCode: status, code: 'FST_CRWS_CHANNEL_REFUSED', message: text })
    t.match(body.message, status === 503 ? /\)\. Try again$/ : /\)\. Leave it out, or connect as a user who may subscribe to it$/)
    await until(() => ended.length > 0, 'onDisconnect')
    t.strictSame(ended.splice(0), [end], channels.join())
  }
  t.equal((await events(t, url, ['#42', 'rule:ok'])).status, 200)
  t.equal(connectionsOf(app).length, 1)
})

t.test('a request that makes no sense gets 400', async (t) => {
  const { url } = await startApp(t, open)
  const many = Array.from({ length: 33 }, (_, i) => `c${i}`)
  const tooMany = await events(t, url, many)
  t.match(tooMany, { status: 400, body: { code: 'FST_CRWS_STREAM_REQUEST', message: /33 channels, at most 32/ } })
  const nameless = await events(t, url, ['news', 'a\nb'])
  t.match(nameless, { status: 400, body: { code: 'FST_CRWS_STREAM_REQUEST', message: "Bad request: Invalid channel 'a\\nb': control characters are not allowed in its name" } })
  for (const query of ['&channels=news,chat', '&channel[]=news', '&cf_connect={"subs":{"news":{}}}']) {
    t.match(await events(t, url, [], { query }), { status: 400, body: { code: 'FST_CRWS_STREAM_REQUEST', message: /channel must be in the query once for each/ } }, query)
    t.equal((await events(t, url, ['news'], { query })).status, 200, 'the query may also be for the app')
  }
  for (const channel of ['caf%E9', '100%', '%ED%A0%80']) {
    const misread = await events(t, url, [], { query: `channel=${channel}` })
    t.match(misread, { status: 400, body: { code: 'FST_CRWS_STREAM_REQUEST', message: /percent-encoded UTF-8: \?channel=caf%C3%A9/ } }, channel)
  }
  t.match((await (await events(t, url, ['café', '100%'])).event(0)).data.channels, { café: {}, '100%': {} })
  t.equal((await events(t, url, many.slice(1))).status, 200)
  t.equal((await events(t, url, ['news'], { query: '&lastEventId=a&lastEventId=b' })).status, 400)
  const { app, url: other } = await startApp(t, open, { routerOptions: { querystringParser: () => ({ channel: { a: 'b' } }) } })
  t.match(await events(t, other, ['news']), { status: 400, body: { message: /once for each channel/ } })
  t.equal(connectionsOf(app).length, 0)
})

t.test('over HTTP/2 a stream is the same, and a URL that only HTTP/1.1 refuses by itself gets 400', async (t) => {
  const app = Fastify({ http2: true }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { ...open, shutdown: { signals: false, timeout: 500 } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const session = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.destroy())
  const ask = async (query: string) => {
    const stream = session.request({ ':path': `/connection/uni_sse?${query}` })
    const seen = { headers: (await once(stream, 'response'))[0], text: '' }
    stream.setEncoding('utf8').on('data', (chunk: string) => { seen.text += chunk })
    return seen
  }
  const client = await ask('channel=a&channel=b')
  t.match(client.headers, { ':status': 200, 'content-type': 'text/event-stream', 'cache-control': 'no-store, no-transform', 'x-accel-buffering': 'no' })
  await until(() => client.text.includes('connected'), 'the first event')
  await app.realtime.publish('a', 1)
  await until(() => client.text.includes('"data":1'), 'the publication')
  connectionsOf(app)[0]!.close()
  await until(() => client.text.includes('"code":1000'), 'the end')
  t.match(client.text, /\n\ndata: \{"channel":"a",[^\n]+\nid: 1~\S+\.1~\S+\.0\n\nevent: disconnect\nid: end\ndata: [^\n]+\n\n$/)
  t.match((await ask('channel=caf\xE9')).headers, { ':status': 400 })
})

t.test('onConnect may refuse, or end the connection, before there is a stream', async (t) => {
  const { app, url } = await startApp(t, {
    ...open,
    onConnect: async (connection, { headers }) => {
      const { what } = headers
      if (what === 'refuse') throw new ClientError(402, 'pay first')
      if (what === 'throw') throw new Error('a bug')
      if (what === 'close') connection.close()
      if (what === 'busy') connection.close(4000, 'busy')
      if (what === 'wait') await new Promise(() => {})
    }
  })
  const answers = await Promise.all(['refuse', 'throw', 'close', 'busy'].map(what => events(t, url, ['news'], { headers: { what } })))
  t.match(answers.map(({ status, body }) => [status, body.code, body.message]), [
    [402, 'FST_CRWS_CONNECTION_REFUSED', /pay first \(402\)/],
    [503, 'FST_CRWS_CONNECTION_REFUSED', /internal error \(1011\)/],
    [403, 'FST_CRWS_CONNECTION_REFUSED', /closed by the server \(1000\)/],
    [503, 'FST_CRWS_CONNECTION_REFUSED', /busy \(4000\)/]
  ])
  const waiting = events(t, url, ['news'], { headers: { what: 'wait' } })
  await until(() => connectionsOf(app).length === 1, 'the connection')
  await app.close()
  t.match(await waiting, { status: 503 }, 'the instance has ended')
})

t.test('EventSource is told in a stream to try again, as it gives up at a status', async (t) => {
  const { url } = await startApp(t, { ...open, maxConnections: 1 })
  await events(t, url, ['news'])
  const source = await events(t, url, ['news'], { headers: { accept: 'text/event-stream' } })
  t.equal(source.status, 200)
  await until(() => source.ended, 'the end')
  t.match(source.events, [{ type: 'disconnect', data: { code: 503, reason: /holds 1 connections/, reconnect: true } }])
  t.ok(source.retry! >= 1_000 && source.retry! <= 5_000)
  t.equal(source.headers['retry-after'], undefined)
  const other = await events(t, url, ['news'])
  t.match(other, { status: 503, body: { code: 'FST_CRWS_CAPACITY' } })
  t.ok(other.headers['retry-after'])
})

t.test('EventSource is told to try again by whatever the app answers in our place', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async ({ headers: { what } }, reply) => {
    if (what === 'text') return reply.code(503).header('retry-after', new Date(Date.now() + 9_000).toUTCString()).send('closed for repairs')
    if (what === 'json') return reply.code(429).header('retry-after', '7').send({ message: 'too often' })
    if (what === 'zero') return reply.code(502).header('retry-after', '0').send('')
    if (what === 'own') return reply.code(520).send('')
    if (what === 'null') return reply.code(503).type('application/json').send('null')
    if (what === 'error') throw Object.assign(new Error('under pressure'), { statusCode: 503 })
  })
  app.setErrorHandler(({ message }: Error, _request, reply) => reply.code(503).type('text/html').send(`<p>${message}`))
  await app.register(cloudRunWebSocket, {
    ...open,
    authenticate: ({ headers: { what } }) => { if (what === 'bug') throw new TypeError('a bug'); return { user: '42' } }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const cases = [
    ['text', 503, 'Service Unavailable'],
    ['json', 429, 'too often', 7_000],
    ['zero', 502, 'Bad Gateway'],
    ['null', 503, 'Service Unavailable'],
    ['error', 503, 'Service Unavailable'],
    ['bug', 500, /could not be checked/],
    ['own', 520, '520']
  ] as const
  for (const [what, code, reason, retry] of cases) {
    const source = await events(t, url, ['news'], { headers: { accept: 'text/event-stream', what } })
    t.equal(source.status, 200, what)
    await until(() => source.ended, 'the end')
    t.match(source.events, [{ type: 'disconnect', data: { code, reason, reconnect: true } }], what)
    if (retry !== undefined) t.equal(source.retry, retry, what)
    else t.ok(source.retry! >= 1_000 && source.retry! <= 5_000, what) // random, so that pages do not come back together
  }
})

t.test('EventSource that comes back to an instance that is closing is told to try again', async (t) => {
  let release = () => {}
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, {
    ...open,
    allowedOrigins: ['https://app.example'],
    onDisconnect: () => new Promise<void>(resolve => { release = resolve })
  }, { logger })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const get = async (path: string) => {
    const headers = { accept: 'text/event-stream', origin: 'https://app.example' }
    const [response] = await once(request(httpOf(url) + path, { agent, headers }).end(), 'response') as [IncomingMessage]
    return response
  }
  const stream = await get('/connection/uni_sse?channel=news')
  const closed = app.close()
  t.match(await text(stream), /event: disconnect\nretry: \d+\n/)
  const again = await get('/connection/uni_sse?channel=news') // in the same socket
  t.equal(again.statusCode, 200)
  t.match(again.headers, { connection: 'close', 'content-type': 'text/event-stream', 'access-control-allow-origin': 'https://app.example' })
  t.match(await text(again), /^event: disconnect\nretry: [1-5]000\ndata: {"code":503,"reason":"This instance is shutting down[^"]*","reconnect":true}\n\n$/)
  t.match(entries.find(({ event }) => event === 'connection.rejected'), { error: 'draining', path: '/connection/uni_sse' })
  const other = await get('/other')
  t.equal(other.statusCode, 503)
  other.resume()
  release()
  await closed
})

t.test('a client is told how its stream ends, and whether to come back', async (t) => {
  const { app, url } = await startApp(t, { ...open, authenticate: ({ headers }) => ({ user: String(headers.user ?? '') }) })
  const client = await events(t, url, ['news'], { headers: { user: 'ada' } })
  const { lastEventId } = await client.event(0)
  await app.realtime.disconnect('ada', { code: 4000, reason: 'come back' })
  await until(() => client.ended, 'the end')
  t.match(client.events[1], { type: 'disconnect', lastEventId, data: { code: 4000, reason: 'come back', reconnect: true } })
  t.ok(client.retry! >= 200 && client.retry! <= 2_000)

  const other = await events(t, url, ['news'], { headers: { user: 'ada' } })
  await other.event(0)
  await app.realtime.disconnect('ada')
  await until(() => other.ended, 'the end')
  t.match(other.events[1], { type: 'disconnect', lastEventId: 'end', data: { code: 3503, reason: 'force disconnect', reconnect: false } })
  t.match(await events(t, url, ['news'], { lastEventId: 'end' }), { status: 204 }, 'EventSource stops at 204')

  const third = await events(t, url, ['news'])
  await third.event(0)
  await app.close()
  await until(() => third.ended, 'the end')
  t.match(third.events[1], { type: 'disconnect', data: { code: 1001, reason: 'shutdown', reconnect: true } })
})

t.test('a connection that is too old comes back, and so does one whose login has expired', async (t) => {
  const { url } = await startApp(t, { ...open, maxConnectionAge: '1s', heartbeat: { interval: 200, timeout: 100 } })
  const old = await events(t, url, ['news'])
  await until(() => old.ended, 'the end')
  t.match(old.events.at(-1), { type: 'disconnect', data: { code: 1012, reconnect: true } })
  t.ok(old.comments > 0, 'comments kept it alive, though no answer came')

  const { url: other } = await startApp(t, {
    ...open, heartbeat: { interval: 200, timeout: 100 }, authenticate: () => ({ expiresAt: Math.ceil(Date.now() / 1_000) + 1 })
  })
  const expired = await events(t, other, ['news'])
  await until(() => expired.ended, 'the end')
  t.match(expired.events.at(-1), { type: 'disconnect', data: { code: 3005, reconnect: true } })
})

t.test('a page of another origin is refused, and one of an allowed origin may read', async (t) => {
  const { url } = await startApp(t, { ...open, allowedOrigins: ['https://app.example'] })
  t.match(await events(t, url, ['news'], { headers: { origin: 'https://evil.example' } }), { status: 403, body: { code: 'FST_CRWS_ORIGIN' } })
  const allowed = await events(t, url, ['news'], { headers: { origin: 'https://app.example' } })
  t.equal(allowed.status, 200)
  t.equal(allowed.headers['access-control-allow-origin'], 'https://app.example')
  t.equal(allowed.headers['access-control-allow-credentials'], 'true')
  const refused = await events(t, url, ['x:1'], { headers: { origin: 'https://app.example' } })
  t.equal(refused.headers['access-control-allow-origin'], 'https://app.example', 'it may read errors, too')
})

t.test('the route can be left out', async (t) => {
  const { url } = await startApp(t, { ...open, fallback: { uniSsePath: false } })
  t.equal((await fetch(`${httpOf(url)}/connection/uni_sse`)).status, 404)
  const { url: other } = await startApp(t, { channels: open.channels })
  t.equal((await fetch(`${httpOf(other)}/connection/uni_sse`)).status, 404)
})
