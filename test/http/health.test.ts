import Fastify from 'fastify'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.test('/health answers with the number of connections and the instance', async (t) => {
  const { app, url } = await startApp(t)
  const response = await app.inject('/health')
  t.equal(response.statusCode, 200)
  t.match(response.headers['content-type'], /application\/json/)
  t.strictSame(Object.keys(response.json()), ['status', 'connections', 'instance'])
  t.match(response.json(), { status: 'ok', connections: 0 })
  await connect(t, `${url}/ws`)
  t.match((await app.inject('/health')).json(), { status: 'ok', connections: 1 })
})

t.test('an app with room is ready', async (t) => {
  const { app } = await startApp(t)
  const response = await app.inject('/ready')
  t.equal(response.statusCode, 200)
  t.match(response.json(), { status: 'ready', reasons: [] })
  t.notOk('redis' in response.json(), 'it has no Redis that could be down')
  t.equal(response.json().instance, (await app.inject('/health')).json().instance)
})

t.test('an app that has not started is not ready', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  // A host with a server of its own may serve while its hooks still prepare the app.
  const server = createServer((request, response) => app.routing(request, response))
  t.teardown(() => server.close())
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const ready = async () => {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/ready`, { headers: { connection: 'close' } })
    return { statusCode: response.status, ...await response.json() as { status: string, reasons: string[] } }
  }
  let early: unknown
  app.addHook('onReady', async () => { early = await ready() })
  await app.register(cloudRunWebSocket, { shutdown: { signals: false } })
  await app.ready()
  t.match(early, { statusCode: 503, status: 'unavailable', reasons: ['starting'] })
  t.match(await ready(), { statusCode: 200, reasons: [] })
})

t.test('a full app is not ready, but alive', async (t) => {
  const { app, url } = await startApp(t, { maxConnections: 1 })
  const client = await connect(t, `${url}/ws`)
  const response = await app.inject('/ready')
  t.equal(response.statusCode, 503)
  t.match(response.json(), { status: 'unavailable', reasons: ['full'] })
  t.equal((await app.inject('/health')).statusCode, 200)
  client.socket.close()
  await until(async () => (await app.inject('/ready')).statusCode === 200, 'there is room again')
})

t.test('an app that loses Redis stays ready, and says that Redis is down', async (t) => {
  const redis = await startRedis(t)
  const { app } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix() })
  const ready = async () => {
    const response = await app.inject('/ready')
    return { statusCode: response.statusCode, ...response.json() }
  }
  t.match(await ready(), { statusCode: 200, status: 'ready', reasons: [], redis: 'up' })
  await redis.kill()
  await until(async () => (await ready()).redis === 'down', 'Redis is down')
  t.match(await ready(), { statusCode: 200, status: 'ready', reasons: [], redis: 'down' })
  t.equal((await app.inject('/health')).statusCode, 200)
  await redis.restart()
  await until(async () => (await ready()).redis === 'up', 'Redis is up again')
})

t.test("with redisReadiness 'always' an app without Redis is not ready, but alive, and comes back with it", async (t) => {
  const redis = await startRedis(t)
  const { app } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), redisReadiness: 'always' })
  t.equal((await app.inject('/ready')).statusCode, 200)
  await redis.kill()
  await until(async () => (await app.inject('/ready')).statusCode === 503, 'it is not ready')
  t.match((await app.inject('/ready')).json(), { status: 'unavailable', reasons: ['redis'], redis: 'down' })
  t.equal((await app.inject('/health')).statusCode, 200)
  await redis.restart()
  await until(async () => (await app.inject('/ready')).statusCode === 200, 'it is ready again')
})

t.test('an app that Redis refused at the start is not ready until it receives commands, and tries again by itself', async (t) => {
  const redis = await startRedis(t)
  await command(redis.port, ['CONFIG', 'SET', 'maxmemory', '1'])
  const options = { redis: redis.url, keyPrefix: randomPrefix() }
  const { app, url } = await startApp(t, { ...options, authenticate: () => ({ user: 'ann' }) })
  t.match((await app.inject('/ready')).json(), { reasons: ['redis'] })
  const client = await connect(t, `${url}/ws`)
  await command(redis.port, ['CONFIG', 'SET', 'maxmemory', '0'])
  await until(async () => (await app.inject('/ready')).statusCode === 200, 'it is ready', 20_000)
  const other = await startApp(t, options)
  await other.app.realtime.disconnect('ann')
  t.match(await client.closed, { code: 3503 })
})

t.test('an app that starts while Redis is down serves, and is ready once Redis is up', async (t) => {
  const redis = await startRedis(t)
  await redis.kill()
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix() })
  const ready = async () => (await app.inject('/ready')).json()
  t.match(await ready(), { reasons: ['redis'], redis: 'down' })
  const client = await connect(t, `${url}/ws`)
  await redis.restart()
  await until(async () => (await ready()).status === 'ready', 'it is ready')
  const [connection] = app.realtime.connections
  await connection!.subscribe('news')
  await app.realtime.publish('news', 'hello')
  t.equal(await client.next(), 'hello')
})

t.test('/ready lists all reasons', async (t) => {
  const redis = await startRedis(t)
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), maxConnections: 1, redisReadiness: 'always' })
  await connect(t, `${url}/ws`)
  await redis.kill()
  await until(async () => (await app.inject('/ready')).json().reasons.length === 2, 'both reasons')
  t.strictSame((await app.inject('/ready')).json().reasons, ['full', 'redis'])
})

t.test('a probe that a hook of the app has answered is a warning that says what to do', async (t) => {
  const { logger, entries } = collectLog()
  const app = Fastify({ logger })
  t.teardown(() => app.close())
  let status = 401
  app.addHook('onRequest', async (_request, reply) => status === 200 ? undefined : reply.code(status).send())
  await app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false, timeout: 2_000 } })
  const hints = () => entries.filter(({ event }) => event === 'hint')
  for (status of [200, 404, 401, 403]) await app.inject('/health')
  t.match(hints(), [{ hint: 'probe_refused', path: '/health', status: 401, command: "if (request.routeOptions.url === '/health') return", msg: /Register the plugin/ }])
  t.equal(hints().length, 1)
})

t.test('probes do not fill the log', async (t) => {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, {}, { logger })
  entries.length = 0
  await app.inject('/health')
  await app.inject('/ready')
  t.strictSame(entries, [])
})
