import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const returned = (app: () => any): Options['onMessage'] => (_connection, text) => app().realtime.publish('news:1', text as string)
const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i))

/** Two instances: the first takes messages, and both deliver them. */
async function instances (t: Test, history: boolean, handler: (app: () => any) => Options['onMessage']) {
  const redis = await startRedis(t)
  const log = collectLog()
  const calls: string[] = []
  const started: { app?: any } = {}
  const options: Options = {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    rateLimit: false,
    channels: { news: history ? { history: { size: 1_000, ttl: '1m' } } : {} },
    onConnect: connection => connection.subscribe('news:1').then(() => { connection.send('ready') }),
    onMessage (connection, data) {
      if (data === 'echo') return connection.send('echo')
      calls.push(String(data))
      return handler(() => started.app)!(connection, data)
    },
    onDisconnect: () => { calls.push('disconnected') }
  }
  const one = await startApp(t, options, { logger: log.logger })
  const two = await startApp(t, options)
  started.app = one.app
  const open = async (url: string) => {
    const client = await connect(t, `${url}/ws`)
    await client.next()
    return client
  }
  const sender = await open(one.url)
  const reader = await open(two.url)
  const bystander = await open(one.url)
  /** Resolves when what the sender has sent before was read and handled, as far as it is handled at all. */
  const settled = async () => {
    for (let i = 0; i < 5; i++) {
      bystander.send('echo')
      await until(() => bystander.messages.at(-1) === 'echo' && bystander.messages.push('-') > 0, 'the echo')
    }
  }
  return { redis, log, calls, app: one.app, sender, reader, settled }
}

for (const history of [true, false]) {
  t.test(`a returned publish holds up no message, up to 64 at once, and all stay in order: history ${history}`, async (t) => {
    const { redis, calls, sender, reader, settled } = await instances(t, history, returned)
    redis.freeze()
    for (const text of numbers(100)) sender.send(text)
    await until(() => calls.length === 64, 'the handler has 64')
    await settled()
    t.equal(calls.length, 64, 'the next one waits')
    redis.thaw()
    await until(() => reader.messages.length === 101, 'all have arrived on the other instance')
    t.strictSame(reader.messages.slice(1), numbers(100))
    t.strictSame(calls, numbers(100))
  })
}

t.test('an async handler still holds up the next message, and so does a promise made from that of publish', async (t) => {
  const handlers: Array<(app: () => any) => Options['onMessage']> = [
    app => async (_connection, text) => app().realtime.publish('news:1', text as string),
    app => (_connection, text) => app().realtime.publish('news:1', text as string).then(() => {})
  ]
  for (const handler of handlers) {
    const { redis, calls, sender, reader, settled } = await instances(t, true, handler)
    redis.freeze()
    for (const text of numbers(10)) sender.send(text)
    await until(() => calls.length === 1, 'the first one')
    await settled()
    t.strictSame(calls, ['0'])
    redis.thaw()
    await until(() => reader.messages.length === 11, 'all have arrived')
    t.strictSame(reader.messages.slice(1), numbers(10))
  }
})

t.test('a returned broadcast counts once for each of its channels', async (t) => {
  const channels = Array.from({ length: 32 }, (_, i) => `news:${i}`)
  const { redis, calls, sender, reader, settled } = await instances(t, false, app => (_connection, text) => {
    return app().realtime.broadcast(channels, text as string)
  })
  redis.freeze()
  for (const text of numbers(5)) sender.send(text)
  await until(() => calls.length === 2, 'two broadcasts')
  await settled()
  t.equal(calls.length, 2)
  redis.thaw()
  await until(() => reader.messages.length === 6, 'all have arrived')
  t.strictSame(reader.messages.slice(1), numbers(5))
})

t.test('Redis that crashes with 64 in flight is one failure of the handler, and onDisconnect comes after all', async (t) => {
  const settledPublishes: string[] = []
  const { redis, log, calls, sender } = await instances(t, true, app => (_connection, text) => {
    const publish = app().realtime.publish('news:1', text as string)
    publish.then(() => calls.push('stored'), () => settledPublishes.push(calls.includes('disconnected') ? 'late' : 'in time'))
    return publish
  })
  redis.freeze()
  for (const text of numbers(70)) sender.send(text)
  await until(() => calls.length === 64, 'the handler has 64')
  await redis.kill()
  t.match(await sender.closed, { code: 1011, reason: 'internal error' })
  await until(() => calls.at(-1) === 'disconnected', 'onDisconnect')
  t.strictSame(new Set(settledPublishes), new Set(['in time']))
  t.equal(settledPublishes.length, 64)
  t.strictSame(calls, [...numbers(64), 'disconnected'], 'what waited is not handled')
  const failed = log.entries.filter(({ event }) => event === 'connection.failed')
  t.equal(failed.length, 1)
  t.match(failed[0], { msg: /^onMessage failed/, err: { code: 'FST_CRWS_REDIS_NO_ANSWER' } })
})

t.test('a client that leaves while its publishes are in flight gets onDisconnect after them', async (t) => {
  const { redis, calls, sender, settled } = await instances(t, true, app => (_connection, text) => {
    const publish = app().realtime.publish('news:1', text as string)
    publish.then(() => calls.push(`stored ${text}`))
    return publish
  })
  redis.freeze()
  for (const text of numbers(3)) sender.send(text)
  sender.socket.close()
  await until(() => calls.length === 3, 'the handler has all')
  await sender.closed
  await settled()
  t.equal(calls.length, 3)
  redis.thaw()
  await until(() => calls.at(-1) === 'disconnected', 'onDisconnect')
  t.strictSame(calls, [...numbers(3), ...numbers(3).map(text => `stored ${text}`), 'disconnected'])
})

t.test('data that cannot be published ends the connection in the handler, as before', async (t) => {
  const log = collectLog()
  const ends: unknown[] = []
  const { app, url } = await startApp(t, {
    redis: false,
    onMessage: (_connection: Connection, text): unknown => app.realtime.publish('news', text === 'bad' ? undefined : text),
    onDisconnect: (_connection, { code }) => { ends.push(code) }
  }, { logger: log.logger })
  const client = await connect(t, `${url}/ws`)
  client.send('good')
  client.send('bad')
  t.match(await client.closed, { code: 1011 })
  await until(() => ends.length === 1, 'onDisconnect')
  t.match(log.entries.filter(({ event }) => event === 'connection.failed'), [{ msg: /^onMessage failed/, err: { code: 'FST_CRWS_INVALID_DATA' } }])
})
