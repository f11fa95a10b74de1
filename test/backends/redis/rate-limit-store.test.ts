import fastifyRateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import type { FastifyServerOptions } from 'fastify'
import type { AddressInfo } from 'node:net'
import { createClient } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import { clientAddress } from '../../../lib/http/rate-limit.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import { startNode } from '../broker-contract.ts'
import { startApp } from '../../helpers/app.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { connect, rejected } from '../../helpers/ws-client.ts'

const redis = await startRedis(t)

async function startStore (t: Test, prefix: string, url = redis.url) {
  const node = await startNode(t, url, prefix)
  const RateLimitStore = node.backend.rateLimitStore!
  const store = new RateLimitStore()
  const count = (address: string, timeWindow = 60_000) => new Promise<{ current: number, ttl: number }>((resolve, reject) => {
    store.incr(address, (error, result) => error ? reject(error) : resolve(result!), timeWindow)
  })
  return { node, store, count }
}

t.test('instances count an address together, in a window that starts with its first', async (t) => {
  const prefix = randomPrefix()
  const [a, b] = [await startStore(t, prefix), await startStore(t, prefix)]
  const { ttl, current } = await a.count('10.0.0.1')
  t.equal(current, 1)
  t.ok(ttl > 0 && ttl <= 60_000)
  const second = await b.count('10.0.0.1', 600_000)
  t.equal(second.current, 2)
  t.ok(second.ttl <= ttl, 'which is not made longer by the next')
  t.equal((await b.count('10.0.0.2')).current, 1)
  t.equal(a.store.child(), a.store)
  const counts = await Promise.all(Array.from({ length: 50 }, (_, i) => (i % 2 ? a : b).count('10.0.0.3')))
  t.strictSame(counts.map(({ current }) => current).toSorted((a, b) => a - b), Array.from({ length: 50 }, (_, i) => i + 1))
})

t.test('the count begins again when the window is over', async (t) => {
  const prefix = randomPrefix()
  const { count } = await startStore(t, prefix)
  const client = createClient({ url: redis.url })
  await client.connect()
  t.teardown(() => client.destroy())
  await count('10.0.0.1', 50)
  await until(async () => !await client.exists(new RedisKeys(prefix).rateLimit('10.0.0.1')), 'the window is over')
  t.equal((await count('10.0.0.1')).current, 1)
})

t.test('a count that another program left without an end gets one, or its address would be locked out forever', async (t) => {
  const prefix = randomPrefix()
  const { count } = await startStore(t, prefix)
  const client = createClient({ url: redis.url })
  await client.connect()
  t.teardown(() => client.destroy())
  const key = new RedisKeys(prefix).rateLimit('10.0.0.1')
  await client.set(key, '1000000')
  t.strictSame(await count('10.0.0.1'), { current: 1_000_001, ttl: 60_000 })
  t.ok(await client.pTTL(key) > 0)
})

t.test('without Redis the callback gets a coded error', async (t) => {
  const away = await startRedis(t)
  const { node, count } = await startStore(t, randomPrefix(), away.url)
  await away.kill()
  await node.down()
  // The link for commands may notice a moment after the other one.
  await t.rejects(count('10.0.0.1'), { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
})

t.test('two instances share the limit of an address, and without Redis they let it in', async (t) => {
  const shared = await startRedis(t)
  const options = { redis: shared.url, keyPrefix: randomPrefix(), rateLimit: { connections: { max: 3, timeWindow: '10m' } } }
  const [a, b] = [await startApp(t, options), await startApp(t, options)]
  for (const { url } of [a, b, a]) await connect(t, `${url}/ws`)
  for (const { url } of [a, b]) {
    const refusal = await rejected(`${url}/ws`)
    t.equal(refusal.statusCode, 429)
    t.match(JSON.parse(refusal.body), { code: 'FST_CRWS_RATE_LIMIT' })
  }
  await shared.kill()
  await until(() => connect(t, `${a.url}/ws`).then(() => true), 'without Redis nobody is refused', 30_000)
})

for (const [where, store] of [['in memory', false], ['on Redis', redis.url]] as const) {
  t.test(`our routes count together ${where}, and what the host limits itself is counted apart`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cloudRunWebSocket, { redis: store, keyPrefix: randomPrefix(), shutdown: false, rateLimit: { connections: { max: 6, timeWindow: '10m' } } })
    t.notOk(app.hasDecorator('rateLimit'), 'ours is out of sight')
    await app.register(fastifyRateLimit, { global: false })
    app.post('/login', { config: { rateLimit: { max: 5, timeWindow: '10m' } } }, async () => 'welcome')
    await app.listen({ port: 0, host: '127.0.0.1' })
    const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
    for (let i = 0; i < 3; i++) {
      await connect(t, `${url}/ws`)
      await connect(t, `${url}/connection/websocket`)
    }
    for (const path of ['ws', 'connection/websocket']) t.equal((await rejected(`${url}/${path}`)).statusCode, 429)
    for (const expected of [200, 200, 200, 200, 200, 429]) t.equal((await app.inject({ method: 'POST', url: '/login' })).statusCode, expected)
  })
}

t.test('on Cloud Run the address of a client is the one its front end added, unless the host decides', async (t) => {
  const { K_SERVICE: before } = process.env
  t.teardown(() => {
    if (before === undefined) delete process.env.K_SERVICE
    else process.env.K_SERVICE = before
  })
  const addressOf = async (forwarded: string | undefined, options: FastifyServerOptions = {}) => {
    const app = Fastify(options)
    app.get('/', async (request) => clientAddress(request, 0))
    const { body } = await app.inject({ url: '/', ...(forwarded !== undefined && { headers: { 'x-forwarded-for': forwarded } }) })
    return body
  }
  delete process.env.K_SERVICE
  t.equal(await addressOf('1.1.1.1, 2.2.2.2'), '127.0.0.1', 'anybody could have sent it')
  process.env.K_SERVICE = 'chat'
  t.equal(await addressOf('1.1.1.1, 2.2.2.2'), '2.2.2.2', 'what the client sent itself stands before it')
  t.equal(await addressOf('2.2.2.2'), '2.2.2.2')
  t.equal(await addressOf(undefined), '127.0.0.1')
  t.equal(await addressOf('1.1.1.1, '), '127.0.0.1')
  t.equal(await addressOf('1.1.1.1, 2.2.2.2, 3.3.3.3', { trustProxy: '127.0.0.1, 3.3.3.3' }), '2.2.2.2')
})
