import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../helpers/redis.ts'
import type { RedisOptions } from '../helpers/redis.ts'
import { startInstances } from '../helpers/sdk.ts'
import { openStream } from '../helpers/streams.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

t.setTimeout(240_000)

const { rootNodes } = await startRedisCluster(t)

/** Two instances with one Redis. The header x-user names a client's user, x-channels its first subscriptions. */
async function startCluster (t: Test, options: Options = {}, redisOptions: RedisOptions = {}) {
  const redis = await startRedis(t, redisOptions)
  const all: Options = {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    channels: { chat: { history: { size: 1_000, ttl: '10m' } }, room: { presence: true } },
    authenticate: ({ headers }) => ({ user: headers['x-user'] as string ?? '', meta: headers['x-channels'] ?? '' }),
    onConnect: async (connection) => {
      for (const channel of (connection.meta as string).split(',').filter(Boolean)) await connection.subscribe(channel)
    },
    ...options
  }
  const [a, b] = await Promise.all([startApp(t, all), startApp(t, all)])
  const open = async (instance: typeof a, user: string, channels = '') => {
    const client = await connect(t, `${instance.url}/ws`, { headers: { 'x-user': user, 'x-channels': channels } })
    const count = channels.split(',').filter(Boolean).length
    await until(() => connectionsOf(instance, user).every(connection => connection.channels.size >= count), `${user} is subscribed`)
    return client
  }
  return { redis, a, b, open, options: all }
}

function connectionsOf ({ app }: Awaited<ReturnType<typeof startApp>>, user: string): Connection[] {
  return [...app.realtime.connections].filter(connection => connection.user === user)
}

/** Messages are 'publisher number': the numbers of each publisher, in the order in which they came. */
function sequences (messages: Array<string | Buffer>): Record<string, number[]> {
  const result: Record<string, number[]> = {}
  for (const message of messages) {
    const [publisher, n] = String(message).split(' ') as [string, string]
    const sequence = result[publisher] ??= []
    sequence.push(Number(n))
  }
  return result
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

/** Every client has got exactly these numbers of each publisher, in order. */
async function allGot (t: Test, clients: Client[], expected: Record<string, number[]>): Promise<void> {
  const count = Object.values(expected).reduce((sum, { length }) => sum + length, 0)
  await until(() => clients.every(({ messages }) => messages.length >= count), 'all messages', 60_000)
  t.strictSame(clients.map(({ messages }) => sequences(messages)), clients.map(() => expected))
}

for (const channel of ['chat:1', 'plain:1']) {
  t.test(`40 clients on 2 instances get 400 messages of 2 publishers in ${channel}, complete and in order`, async (t) => {
    const { a, b, open } = await startCluster(t)
    const clients = await Promise.all(upTo(40).map(i => open(i % 2 === 0 ? a : b, `user${i}`, channel)))
    await Promise.all([a, b].map(async ({ app }, publisher) => {
      for (let n = 0; n < 200; n++) await app.realtime.publish(channel, `${publisher} ${n}`)
    }))
    await allGot(t, clients, { 0: upTo(200), 1: upTo(200) })
    const orders = new Set(clients.map(({ messages }) => String(messages)))
    if (channel === 'chat:1') t.equal(orders.size, 1, 'with history the order is the same for all')
  })
}

t.test('publications that are not awaited stay in order too', async (t) => {
  const { a, b, open } = await startCluster(t)
  const clients = [await open(a, 'ann', 'chat:1,plain:1'), await open(b, 'bob', 'chat:1,plain:1')]
  const { realtime } = a.app
  await Promise.all(upTo(300).flatMap(n => [realtime.publish('chat:1', `chat ${n}`), realtime.publish('plain:1', `plain ${n}`)]))
  await allGot(t, clients, { chat: upTo(300), plain: upTo(300) })
})

t.test('presence, history, sessions and info are the same on both instances', async (t) => {
  const { a, b, open } = await startCluster(t)
  const ann = await open(a, 'ann', 'room:1')
  const annAgain = await open(b, 'ann', 'room:1')
  await open(b, 'bob', 'room:1')
  const seen = async ({ app }: typeof a) => (await app.realtime.presence('room:1')).map(({ user }) => user).sort()
  for (const instance of [a, b]) {
    t.strictSame(await seen(instance), ['ann', 'ann', 'bob'])
    t.strictSame(await instance.app.realtime.presenceStats('room:1'), { clients: 3, users: 2 })
  }
  ann.socket.close()
  await until(async () => (await seen(b)).length === 2, 'one connection less')
  t.strictSame(await seen(b), ['ann', 'bob'], 'a user with another connection stays')
  annAgain.socket.close()
  await until(async () => (await seen(a)).length === 1, 'the other one too')
  t.strictSame(await seen(a), ['bob'])

  const position = await a.app.realtime.publish('chat:1', 'hello', { idempotencyKey: 'k' })
  t.strictSame(await b.app.realtime.publish('chat:1', 'hello', { idempotencyKey: 'k' }), position, 'one key for all instances')
  t.match(await b.app.realtime.history('chat:1'), { ...position, publications: [{ data: 'hello' }] })
  await a.app.realtime.sessions.set('ann', { theme: 'dark' })
  t.strictSame(await b.app.realtime.sessions.get('ann'), { theme: 'dark' })
  const info = await a.app.realtime.info()
  t.equal(info.length, 2)
  t.strictSame(info.map(({ instance }) => instance).sort(), (await b.app.realtime.info()).map(({ instance }) => instance).sort())

  await b.app.close()
  t.equal((await a.app.realtime.info()).length, 1, 'an instance that was closed is not listed')
  t.strictSame(await seen(a), [], 'nor are its clients present')
})

for (const cut of [false, true]) {
  const when = cut ? ', also when the links were cut at that moment' : ''
  t.test(`a user is subscribed, unsubscribed and disconnected on every instance${when}`, async (t) => {
    const { redis, a, b, open } = await startCluster(t)
    const clients = await Promise.all([open(a, 'ann'), open(b, 'ann'), open(b, 'bob')])
    const [annA, annB, bob] = clients
    const cutLinks = async () => {
      if (cut) t.not(await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub']), '0', 'links were cut')
    }
    const channelsOfAnn = () => [...connectionsOf(a, 'ann'), ...connectionsOf(b, 'ann')].map(({ channels }) => [...channels])

    await cutLinks()
    await a.app.realtime.subscribe('ann', 'chat:1')
    await until(() => channelsOfAnn().every(channels => channels.includes('chat:1')), 'both are subscribed')
    await b.app.realtime.publish('chat:1', 'hello')
    t.equal(await annA.next(), 'hello')
    t.equal(await annB.next(), 'hello')

    await cutLinks()
    await b.app.realtime.unsubscribe('ann', 'chat:1')
    await until(() => channelsOfAnn().every(channels => channels.length === 0), 'both are unsubscribed')

    await cutLinks()
    await a.app.realtime.disconnect({ client: connectionsOf(b, 'ann')[0]!.id }, { code: 4001, reason: 'you' })
    t.strictSame(await annB.closed, { code: 4001, reason: 'you' })
    t.equal(connectionsOf(a, 'ann').length, 1)

    await cutLinks()
    await b.app.realtime.disconnect('ann')
    t.strictSame(await annA.closed, { code: 3503, reason: 'force disconnect' })
    t.equal(bob.socket.readyState, 1)
    t.strictSame(bob.messages, [])
  })
}

t.test('Redis is killed and restarted while clients stay: in a channel with history nothing is lost, twice or out of order', async (t) => {
  const { redis, a, b, open } = await startCluster(t, {}, { persist: true })
  const clients = await Promise.all(upTo(20).map(i => open(i % 2 === 0 ? a : b, `user${i}`, 'chat:1')))
  const total = 150
  let published = 0
  const publishers = [a, b].map(async ({ app }, publisher) => {
    for (let n = 0; n < total; n++) {
      const message = `${publisher} ${n}`
      // As an app would: until it is acknowledged.
      await until(() => app.realtime.publish('chat:1', message, { idempotencyKey: message }), `${message} is published`, 60_000)
      published++
    }
  })
  for (const share of [0.25, 0.5]) {
    await until(() => published >= 2 * total * share, 'some are published', 60_000)
    await redis.kill()
    await until(async () => (await a.app.inject('/ready')).json().redis === 'down', 'Redis is down')
    await t.rejects(a.app.realtime.publish('chat:1', 'never'), { code: /^FST_CRWS_REDIS_/ })
    await redis.restart()
  }
  await Promise.all(publishers)
  await allGot(t, clients, { 0: upTo(total), 1: upTo(total) })
  t.strictSame(clients.filter(({ socket }) => socket.readyState !== 1), [], 'all connections are still open')
})

t.test('links that are cut all the time lose nothing in a channel with history', async (t) => {
  const { redis, a, b, open } = await startCluster(t)
  const clients = await Promise.all([open(a, 'ann', 'chat:1'), open(b, 'bob', 'chat:1')])
  for (let n = 0; n < 200; n++) {
    if (n % 40 === 20) await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub'])
    await a.app.realtime.publish('chat:1', `a ${n}`)
  }
  await allGot(t, clients, { a: upTo(200) })
})

t.test('a client whose instance goes away finds everything on the other one', async (t) => {
  const { a, b, open } = await startCluster(t)
  const client = await open(a, 'ann', 'chat:1')
  const { epoch } = await b.app.realtime.publish('chat:1', 'x 0')
  await b.app.realtime.publish('chat:1', 'x 1')
  await until(() => client.messages.length === 2, 'two messages')
  const closed = a.app.close()
  t.equal((await client.closed).code, 1001)
  await b.app.realtime.publish('chat:1', 'x 2')
  const again = await open(b, 'ann')
  const subscribed = connectionsOf(b, 'ann')[0]!.subscribe('chat:1', { since: { offset: 2, epoch: epoch! } })
  await b.app.realtime.publish('chat:1', 'x 3')
  t.match(await subscribed, { recovered: true, epoch })
  await b.app.realtime.publish('chat:1', 'x 4')
  await until(() => again.messages.length >= 3, 'the rest')
  t.strictSame([...client.messages, ...again.messages].map(String).filter(message => message.startsWith('x')), upTo(5).map(n => `x ${n}`))
  await closed
})

t.test('on a Redis Cluster messages arrive complete and in order too, and a user is disconnected on every instance', async (t) => {
  const channels = upTo(6).map(i => i % 2 === 0 ? `chat:${i}` : `plain:${i}`)
  const options: Options = {
    redis: { rootNodes },
    keyPrefix: randomPrefix(),
    channels: { chat: { history: { size: 1_000, ttl: '10m' } } },
    authenticate: () => ({ user: 'ann' }),
    onConnect: async (connection) => { for (const channel of channels) await connection.subscribe(channel) }
  }
  const instances = await Promise.all([startApp(t, options), startApp(t, options)])
  const clients = await Promise.all(instances.flatMap(({ url }) => [connect(t, `${url}/ws`), connect(t, `${url}/ws`)]))
  const connections = () => instances.flatMap(instance => connectionsOf(instance, 'ann'))
  await until(() => connections().every(connection => connection.channels.size === 6), 'all are subscribed')
  await Promise.all(instances.map(async ({ app }, publisher) => {
    for (let n = 0; n < 50; n++) for (const channel of channels) await app.realtime.publish(channel, `${publisher}-${channel} ${n}`)
  }))
  await allGot(t, clients, Object.fromEntries([0, 1].flatMap(publisher => channels.map(channel => [`${publisher}-${channel}`, upTo(50)]))))
  await instances[0]!.app.realtime.disconnect('ann')
  const ends = await Promise.all(clients.map(({ closed }) => closed))
  t.strictSame(ends.map(({ code }) => code), Array(4).fill(3503))
})

t.test('on a Redis Cluster posts find their streams on other instances, whichever they are', async (t) => {
  const options: Options = { fallback: true, onRpc: (_connection, _method, data) => data }
  const instances = await startInstances(t, 4, { ...options, redis: { rootNodes } })
  await Promise.all(instances.map(async ({ url }, i) => {
    const stream = await openStream(t, url)
    await stream.reply(1)
    const posts = upTo(12).map(n => {
      return stream.post({ id: n + 2, rpc: { method: 'echo', data: { i, n } } }, instances[(i + 1 + n % 3) % 4]!.url)
    })
    t.strictSame((await Promise.all(posts)).map(({ status }) => status), upTo(12).map(() => 204))
    await stream.reply(13)
    const answers = stream.replies.filter(({ rpc }) => rpc !== undefined)
    t.strictSame(answers.map(({ rpc }) => rpc.data), upTo(12).map(n => ({ i, n })), 'in the order of their ids')
  }))
})
