import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { connectionsOf, MUCH } from '../../helpers/connections.ts'
import { collectLog } from '../../helpers/log.ts'
import { openRaw } from '../../helpers/raw-socket.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { openStream, streamClient, streamTransports } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

const chat: Options = { fallback: true, channels: { chat: { subscribe: true, publish: true, history: { size: 1_000, ttl: '1m' } } } }

/** Ends that the server brings about, with what a client is told. */
const ends: ReadonlyArray<readonly [what: string, options: Options, code: number, cause: string]> = [
  ['it is old', { maxConnectionAge: 1_000 }, 3011, 'deadline'],
  ['its login expires', { authenticate: () => ({ user: 'ada', expiresAt: Date.now() / 1_000 + 1 }) }, 3005, 'policy'],
  ['nothing comes from the client', { heartbeat: { interval: 50, timeout: 50 } }, 3012, 'heartbeat'],
  ['the app closes it', { onConnect: connection => { connection.close(4000, 'go') } }, 4000, 'server'],
  ['the app has nothing more', { onConnect: connection => { connection.close() } }, 3503, 'server']
]

for (const [what, options, code, cause] of ends) {
  t.test(`a stream tells why it ends: ${what}`, async (t) => {
    const { logger, entries } = collectLog()
    const { url } = await startApp(t, { fallback: true, ...options }, { logger })
    const stream = await openStream(t, url)
    const disconnect = await stream.push('disconnect')
    await stream.ended
    t.match(disconnect, { code, reason: /./, reconnect: code !== 3503 })
    await until(() => entries.some(({ event }) => event === 'connection.closed'), 'it is closed')
    t.match(entries.find(({ event }) => event === 'connection.closed'), { code, cause, transport: 'http_stream', protocol: 'json' })
  })
}

t.test('a client whose token is refused is told so', async (t) => {
  const { url } = await startApp(t, { fallback: true, token: { secret: 'x'.repeat(32) } })
  const none = await openStream(t, url)
  t.match(await none.push('disconnect'), { code: 3501 })
  const wrong = await openStream(t, url, { id: 1, connect: { token: 'a.b.c' } })
  t.match(await wrong.push('disconnect'), { code: 3500, reason: 'invalid token' })
})

t.test('a drain ends every stream, and the app closes', async (t) => {
  const { app, url } = await startApp(t, { fallback: true })
  const streams = await Promise.all([openStream(t, url), openStream(t, url)])
  await Promise.all(streams.map(stream => stream.reply(1)))
  const closing = app.close()
  for (const stream of streams) {
    t.match(await stream.push('disconnect'), { code: 3001, reason: 'shutdown', reconnect: true })
    await stream.ended
  }
  await closing
})

t.test('a pong comes by a post', async (t) => {
  const { app, url } = await startApp(t, { fallback: true, heartbeat: { interval: 100, timeout: 100 } })
  const stream = await openStream(t, url)
  let pings = 0
  await stream.reply(1)
  for (let i = 1; i <= 3; i++) {
    await until(() => stream.replies.filter(reply => Object.keys(reply).length === 0).length >= i, 'a ping')
    t.equal((await stream.post({})).status, 204)
    pings++
  }
  t.equal(pings, 3)
  t.equal(connectionsOf(app).length, 1)
})

t.test('a client that does not read is closed as slow, and what it owes is bounded', async (t) => {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { fallback: true, maxBufferedBytes: 50_000 }, { logger })
  const raw = await openRaw(t, url)
  const body = '{"id":1,"connect":{}}'
  raw.socket.pause()
  raw.socket.write(`POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  const connection = await until(() => connectionsOf(app)[0], 'it is there')
  await connection!.subscribe('news')
  await until(async () => {
    await app.realtime.publish('news', 'x'.repeat(20_000))
    return !connection!.open
  }, 'it is too slow')
  raw.socket.resume()
  await until(() => raw.received().includes('"disconnect":{"code":3008,"reason":"slow","reconnect":true}'), 'it is told so when it reads on')
  await until(() => entries.some(({ event }) => event === 'connection.closed'), 'it is closed', 20_000)
  t.match(entries.find(({ event }) => event === 'connection.closed'), { code: 3008, cause: 'slow' })
  t.match(entries.find(({ event }) => event === 'connection.slow'), { transport: 'http_stream' })
})

t.test('a client that does not read gets the latest where that is the rule', async (t) => {
  const options: Options = { fallback: true, channels: { price: { subscribe: true, slow: 'latest' } }, maxBufferedBytes: 100_000_000 }
  const { app, url } = await startApp(t, options)
  const raw = await openRaw(t, url)
  const body = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"price:a"}}'
  raw.socket.write(`POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  await until(() => raw.received().includes('"id":2'), 'it is subscribed')
  raw.socket.pause()
  const connection = connectionsOf(app)[0]!
  connection.send(MUCH)
  for (let n = 1; n <= 3; n++) await app.realtime.publish('price:a', { n })
  raw.socket.resume()
  await until(() => raw.received().includes('"n":3'), 'the latest')
  t.ok(connection.open)
  t.notOk(/"n":[12]/.test(raw.received().toString()), 'what it took over is skipped')
})

t.test('a client that goes away is gone, and what fetch opens in its place does not keep the app open', async (t) => {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { fallback: true }, { logger })
  let opened = 0
  app.server.on('connection', () => { opened++ })
  const stream = await openStream(t, url)
  await stream.reply(1)
  stream.abort()
  await until(() => connectionsOf(app).length === 0, 'it has gone')
  t.match(entries.find(({ event }) => event === 'connection.closed'), { cause: 'client', received: 1, sent: 1 })
  await until(() => opened === 2, 'fetch has opened another socket')
  await app.close()
})

t.test("an app's timeout for requests does not cut a stream", async (t) => {
  const timeouts = { connectionTimeout: 100, requestTimeout: 100, handlerTimeout: 100 }
  const { url } = await startApp(t, { fallback: true }, timeouts as object)
  const stream = await openStream(t, url)
  await stream.reply(1)
  await new Promise(resolve => setTimeout(resolve, 500))
  t.equal((await stream.post({ id: 2, rpc: { method: 'a' } })).status, 204)
  t.match(await stream.reply(2), { error: { code: 108 } })
})

for (const [transport, encoding] of streamTransports) {
  t.test(`nothing is lost over ${transport} in ${encoding} when instances are replaced under traffic`, async (t) => {
    const redis = await startRedis(t)
    const { logger, entries } = collectLog()
    const [first, second] = await startInstances(t, 2, { ...chat, keyPrefix: 'swap' }, redis, { logger })
    const balancer = await startBalancer(t, [first!.url, second!.url])
    const clients = Array.from({ length: 4 }, () => streamClient(t, balancer.url, transport, encoding))
    const subscriptions = await Promise.all(clients.map(client => client.subscribe('chat:lobby').subscribed()))
    const [third] = await startInstances(t, 1, { ...chat, keyPrefix: 'swap' }, redis)
    let sent = 0
    const traffic = new AbortController()
    const publisher = (async () => {
      while (!traffic.signal.aborted) await third!.app.realtime.publish('chat:lobby', sent++)
    })()
    await until(() => subscriptions.every(({ data }) => data.length > 20), 'traffic')
    balancer.targets.splice(0, 2, second!.url, third!.url)
    await first!.app.close()
    await until(() => entries.some(({ event }) => event === 'drain.finished'), 'drained')
    balancer.cut()
    await Promise.all(clients.map(client => client.connected(2)))
    await until(() => subscriptions.every(({ events }) => events.subscribed.length > 1), 'all are subscribed again')
    traffic.abort()
    await publisher
    await Promise.all(subscriptions.map(subscription => subscription.arrived(sent)))
    for (const subscription of subscriptions) {
      t.strictSame(subscription.data, Array.from({ length: sent }, (_, i) => i), 'each once, in order')
      t.ok(subscription.events.subscribed.slice(1).every(({ recovered }) => recovered))
    }
  })
}

t.test('an app with HTTP/2 has the same streams', async (t) => {
  const app = Fastify({ http2: true }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { ...chat, authenticate: async () => ({ user: 'ada' }), shutdown: { signals: false, timeout: 500 } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const session = connectHttp2(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.destroy())
  const ask = (method: string, path: string, body: string) => {
    const stream = session.request({ ':method': method, ':path': path, 'content-type': 'application/json' })
    let text = ''
    stream.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('error', () => {})
    stream.end(body)
    return { stream, text: () => text }
  }
  const { stream, text } = ask('POST', '/connection/http_stream', '{"id":1,"connect":{}}')
  const [headers] = await once(stream, 'response')
  t.match(headers, { ':status': 200, 'content-type': 'application/json', 'x-accel-buffering': 'no' })
  const line = await until(() => text().split('\n').find(one => one.includes('connect')), 'the reply to connect')
  const { session: secret, node } = JSON.parse(line!).connect
  const posted = ask('POST', '/emulation', JSON.stringify({ session: secret, node, data: '{"id":2,"subscribe":{"channel":"chat:a"}}' }))
  t.match((await once(posted.stream, 'response'))[0], { ':status': 204 })
  await until(() => text().includes('"subscribe"'), 'the reply to subscribe')
  await app.realtime.publish('chat:a', 'hello')
  await until(() => text().includes('hello'), 'the publication')
  const large = ask('POST', '/emulation', 'x'.repeat(200_000))
  t.match((await once(large.stream, 'response'))[0], { ':status': 413 })
  const left = ask('POST', '/connection/http_stream', '{"id":1,"connect":{}}')
  await until(() => left.text().includes('connect'), 'another one')
  t.equal(connectionsOf(app).length, 2)
  left.stream.close()
  await until(() => connectionsOf(app).length === 1, 'it has gone')
  for (const connection of app.realtime.connections) connection.close(4000, 'go')
  await until(() => text().includes('"code":4000'), 'the end')
  await until(() => connectionsOf(app).length === 0, 'it is closed')
})
