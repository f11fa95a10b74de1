import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import t from 'tap'
import type { Test } from 'tap'
import { createPublisher } from '../../index.ts'
import type { ChannelsOptions, PublisherOptions } from '../../index.ts'
import * as ownEntry from '../../publisher.ts'
import { sharedMemory } from '../../testing.ts'
import { startApp } from '../helpers/app.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../helpers/redis.ts'
import { startTracer } from '../helpers/tracer.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(120_000)

const channels: ChannelsOptions = { chat: { history: { size: 10, ttl: '1m' }, presence: true } }

async function startPublisher (t: Test, options: PublisherOptions) {
  const publisher = await createPublisher(options)
  t.teardown(() => publisher.close())
  return publisher
}

/** Every call of a publisher reaches two apps. */
async function testCalls (t: Test, options: PublisherOptions) {
  const apps = await Promise.all([1, 2].map(() => startApp(t, {
    ...options as object,
    channels,
    authenticate: request => ({ user: request.headers.user as string }),
    onConnect: async (connection) => { await connection.subscribe('chat:1') }
  })))
  const clients = await Promise.all(apps.map(({ url }, i) => connect(t, `${url}/ws`, { headers: { user: `user-${i}` } })))
  const publisher = await startPublisher(t, { ...options, channels })
  await until(async () => (await publisher.presence('chat:1')).length === 2, 'both are there')
  t.strictSame(await publisher.presenceStats('chat:1'), { clients: 2, users: 2 })

  const { epoch } = await publisher.publish('chat:1', { text: 'hello' }, { tags: { from: 'worker' } })
  for (const client of clients) t.equal(await client.next(), '{"text":"hello"}')
  t.match(await publisher.broadcast(['chat:1', 'chat:2', 'news'], 'all'), [{ offset: 2, epoch }, { offset: 1 }, {}])
  for (const client of clients) t.equal(await client.next(), 'all')
  t.match(await publisher.history('chat:1'), {
    publications: [{ data: { text: 'hello' }, tags: { from: 'worker' }, offset: 1 }, { data: 'all', offset: 2 }], offset: 2, epoch
  })
  t.match(await apps[0]!.app.realtime.history('chat:1', { limit: 1 }), { publications: [{ data: { text: 'hello' } }] })

  await publisher.unsubscribe('user-0', 'chat:1')
  await publisher.subscribe('user-0', 'news')
  await until(() => Array.from(apps[0]!.app.realtime.connections)[0]?.channels.has('news'), 'it is subscribed')
  await publisher.publish('news', 'later')
  t.equal(await clients[0]!.next(), 'later')
  await publisher.disconnect('user-1', { code: 4001, reason: 'bye' })
  t.strictSame(await clients[1]!.closed, { code: 4001, reason: 'bye' })
}

t.test('a publisher reaches the clients of every instance', async (t) => {
  const redis = await startRedis(t)
  await testCalls(t, { redis: redis.url, keyPrefix: randomPrefix() })
})

t.test('a publisher reaches the clients of every instance on a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  await testCalls(t, { redis: { rootNodes }, keyPrefix: randomPrefix() })
})

t.test('a publisher reaches the apps of its process in a shared memory', async (t) => {
  await testCalls(t, { redis: sharedMemory() })
})

t.test('a publisher has one connection to Redis, and listens to nothing', async (t) => {
  const redis = await startRedis(t)
  const publisher = await startPublisher(t, { redis: redis.url })
  await publisher.publish('news', 1)
  const clients = (await command(redis.port, ['CLIENT', 'LIST'])).trim().split('\n').filter(line => !line.includes('cmd=client'))
  t.equal(clients.length, 1)
  t.match(clients[0], / sub=0 psub=0 ssub=0 /)
})

t.test('the options of a publisher are checked by the checks of the plugin', async (t) => {
  const redis = 'redis://127.0.0.1:1'
  const rejects = async (options: unknown, code: string, message: RegExp) => {
    await t.rejects(createPublisher(options as PublisherOptions), { code, message })
  }
  const { REDIS_URL, REDISHOST } = process.env
  t.teardown(() => Object.assign(process.env, { ...REDIS_URL && { REDIS_URL }, ...REDISHOST && { REDISHOST } }))
  delete process.env.REDIS_URL
  delete process.env.REDISHOST
  await rejects({}, 'FST_CRWS_INVALID_OPTION', /"redis": got nothing, expected the Redis of your app.*REDIS_URL.*a publisher reaches the instances/)
  await rejects({ redis: false }, 'FST_CRWS_INVALID_OPTION', /"redis": got false/)
  await rejects({ redis: 'http://x' }, 'FST_CRWS_INVALID_OPTION', /"redis".*redis:\/\//)
  await rejects({ redis, keyprefix: 'a' }, 'FST_CRWS_UNKNOWN_OPTION', /"keyprefix"\. Did you mean `keyPrefix`\? Known options: redis, keyPrefix, channels, logger/)
  await rejects({ redis, path: '/ws' }, 'FST_CRWS_UNKNOWN_OPTION', /"path"/)
  await rejects({ redis, keyPrefix: 'a b', channels: { 'a:b': {} }, logger: {} }, 'FST_CRWS_INVALID_OPTION', /3 options are wrong:[^]*keyPrefix[^]*namespace/)
  await rejects({ redis, logger: null }, 'FST_CRWS_INVALID_OPTION', /"logger"/)
  await rejects(null, 'FST_CRWS_INVALID_OPTION', /"options"/)
})

t.test('the environment says where Redis is, and a wrong request timeout is none of a worker\'s business', async (t) => {
  const redis = await startRedis(t)
  t.teardown(() => {
    delete process.env.REDIS_URL
    delete process.env.CLOUD_RUN_TIMEOUT_SECONDS
  })
  process.env.REDIS_URL = redis.url
  process.env.CLOUD_RUN_TIMEOUT_SECONDS = 'soon'
  const publisher = await startPublisher(t, {})
  t.strictSame(await publisher.publish('news', 1), {})
})

t.test('wrong arguments reject with coded errors', async (t) => {
  const publisher = await startPublisher(t, { redis: sharedMemory() })
  await t.rejects(publisher.publish('', 1), { code: 'FST_CRWS_INVALID_CHANNEL' })
  await t.rejects(publisher.publish('\u0000control', 1), { code: 'FST_CRWS_INVALID_CHANNEL' })
  await t.rejects(publisher.publish('a', undefined), { code: 'FST_CRWS_INVALID_DATA' })
  await t.rejects(publisher.publish('a', 1, { key: 'x' } as never), { code: 'FST_CRWS_INVALID_ARGUMENT' })
})

t.test('while Redis is down, a publisher is there after two seconds and its calls reject; the logger is told', async (t) => {
  const redis = await startRedis(t)
  await redis.kill()
  const { entries, logger } = logTo()
  const publisher = await startPublisher(t, { redis: redis.url, logger })
  await t.rejects(publisher.publish('news', 1), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  await redis.restart()
  await until(() => publisher.publish('news', 1), 'Redis is back')
  t.match(entries, [['error', { event: 'bridge.down' }], ['info', { event: 'bridge.up' }]])
  await t.rejects(publisher.publish('', 1), { code: 'FST_CRWS_INVALID_CHANNEL' })
  t.match(entries[2], ['warn', { event: 'call.failed', call: 'publish' }])
})

function logTo () {
  const entries: unknown[][] = []
  const level = (name: string) => (fields: object, message: string) => { entries.push([name, fields, message]) }
  return { entries, logger: { info: level('info'), warn: level('warn'), error: level('error') } }
}

t.test('a frozen Redis fails a publish within the known two seconds, and a close ends all the same', async (t) => {
  const redis = await startRedis(t)
  const publisher = await startPublisher(t, { redis: redis.url })
  redis.freeze()
  const failed = t.rejects(publisher.publish('news', 1), { code: 'FST_CRWS_REDIS_NO_ANSWER' })
  await publisher.close()
  await failed
  redis.thaw()
})

t.test('a close waits for what is under way; what comes later is refused', async (t) => {
  const redis = await startRedis(t)
  const keyPrefix = randomPrefix()
  const publisher = await startPublisher(t, { redis: redis.url, keyPrefix, channels })
  const published = Array.from({ length: 100 }, (_, i) => publisher.publish('chat:1', i))
  const closing = publisher.close()
  t.equal(publisher.close(), closing, 'a second close is the same one')
  await t.rejects(publisher.publish('chat:1', 'late'), { code: 'FST_CRWS_PUBLISHER_CLOSED', message: /publish was called after close/ })
  await t.rejects(publisher.presence('chat:1'), { code: 'FST_CRWS_PUBLISHER_CLOSED' })
  await closing
  t.match((await Promise.all(published)).at(-1), { offset: 100 })
  const other = await startPublisher(t, { redis: redis.url, keyPrefix, channels })
  t.equal((await other.history('chat:1', { limit: 0 })).offset, 100)
})

t.test('without the history of the app, what a publisher publishes has no offset, and nobody recovers over it', async (t) => {
  const redis = await startRedis(t)
  const keyPrefix = randomPrefix()
  const [same, none] = await Promise.all([{ channels }, {}].map(more => startPublisher(t, { redis: redis.url, keyPrefix, ...more })))
  const before = await same!.publish('chat:1', 1)
  t.strictSame(await none!.publish('chat:1', 2), {})
  const after = await same!.publish('chat:1', 3)
  t.not(after.epoch, before.epoch, 'positions from before are void')
})

t.test('each publication has a span if an OpenTelemetry SDK is registered', async (t) => {
  const spans = startTracer(t)
  const publisher = await startPublisher(t, { redis: sharedMemory(), channels })
  await publisher.publish('chat:1', 1)
  const [span] = await spans.named('send chat:{channel}')
  t.match(span?.attributes, { 'messaging.destination.name': 'chat:1', 'messaging.system': 'memory' })
})

t.test('the entry of its own has the same function', async (t) => {
  t.equal(ownEntry.createPublisher, createPublisher)
})

t.test('a process that has closed its publisher ends by itself; one that forgets a rejection ends with it', async (t) => {
  const redis = await startRedis(t)
  const run = async (code: string) => {
    const source = `import { createPublisher } from ${JSON.stringify(new URL('../../publisher.ts', import.meta.url).href)}\n${code}`
    const child = spawn(process.execPath, ['--import=tsx', '--input-type=module', '--eval', source], { stdio: ['ignore', 'pipe', 'pipe'] })
    const [out, err, [exit]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
    return { out, err, exit }
  }
  const options = JSON.stringify({ redis: redis.url })
  const [good, bad] = await Promise.all([
    run(`const publisher = await createPublisher(${options})
await publisher.publish('news', 1)
console.log(typeof publisher[Symbol.asyncDispose])
await publisher.close()`),
    run(`const publisher = await createPublisher(${options})\npublisher.publish('', 1)\nawait publisher.close()`)
  ])
  t.strictSame(good, { out: 'function\n', err: '', exit: 0 })
  t.match(bad, { err: /FST_CRWS_INVALID_CHANNEL/, exit: 1 })
})
