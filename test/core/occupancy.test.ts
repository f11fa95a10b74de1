import { SignJWT } from 'jose'
import { createClient } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'
import { RedisKeys } from '../../lib/backends/redis/keys.ts'
import { fakeTime, sharedMemory, testClient } from '../../testing.ts'
import { startApp } from '../helpers/app.ts'
import type { App } from '../helpers/app.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis, startRedisCluster } from '../helpers/redis.ts'
import { encodings, sdkClient } from '../helpers/sdk.ts'
import { startServer } from '../helpers/server-process.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(240_000)
const redis = await startRedis(t)

/** Writes down what all instances are told: '+room' and '-room' of channels, '+@ada' and '-@ada' of users. */
function recorder () {
  const told: string[] = []
  const options: Options = {
    channels: { room: { subscribe: true } },
    authenticate: ({ query }) => ({ user: (query as { user?: string }).user ?? '' }),
    onMessage: async (connection, text) => {
      const [verb, channel] = (text as string).split(' ')
      if (verb === '+') await connection.subscribe(channel!)
      else await connection.unsubscribe(channel!)
      connection.send('done')
    },
    onOccupied: channel => { told.push(`+${channel}`) },
    onVacated: channel => { told.push(`-${channel}`) },
    onUserOnline: user => { told.push(`+@${user}`) },
    onUserOffline: user => { told.push(`-@${user}`) }
  }
  const arrives = (...texts: string[]) => until(() => texts.every(text => told.includes(text)), `told: ${texts.join()}, not ${told.join()}`, 30_000)
  return { told, options, arrives }
}

async function plain (t: Test, { url }: { url: string }, user: string, ...channels: string[]) {
  const client = await connect(t, `${url}/ws?user=${user}`)
  const ask = async (text: string) => {
    client.send(text)
    await client.next()
  }
  for (const channel of channels) await ask(`+ ${channel}`)
  return { ...client, ask }
}

/** Waits until the instances have looked at all that is due. */
async function lookedAt (t: Test, app: App, { told, arrives }: ReturnType<typeof recorder>): Promise<void> {
  // A user who has come and gone later than all others: what was due before is told by then.
  const user = `last-${told.length}`
  const client = await plain(t, app, user)
  await arrives(`+@${user}`)
  client.socket.close()
  await arrives(`-@${user}`)
  told.splice(0, told.length, ...told.filter(text => !text.endsWith(user)))
}

async function testEvents (t: Test, options: Options, count: number): Promise<void> {
  const record = recorder()
  const { told, arrives } = record
  const settings = { ...record.options, ...options, gracePeriod: 50 }
  const apps = await Promise.all(Array.from({ length: count }, () => startApp(t, settings)))
  const [a, b] = [apps[0]!, apps.at(-1)!]
  const ada = await plain(t, a, 'ada', 'room:1', 'room:2')
  const other = await plain(t, b, 'ada', 'room:1')
  await plain(t, b, '', 'room:1')
  const sdk = await sdkClient(t, `${b.url}/connection/websocket?user=bob`, 'json').connected()
  const subscription = sdk.subscribe('room:3')
  await subscription.subscribed()
  await arrives('+@ada', '+@bob', '+room:1', '+room:2', '+room:3')
  await ada.ask('- room:1')
  await ada.ask('- room:2')
  subscription.sub.unsubscribe()
  await arrives('-room:2', '-room:3')
  ada.socket.close()
  sdk.client.disconnect()
  await arrives('-@bob')
  await lookedAt(t, a, record)
  t.strictSame(told.toSorted(), ['+@ada', '+@bob', '+room:1', '+room:2', '+room:3', '-@bob', '-room:2', '-room:3'])
  other.socket.close()
  await arrives('-@ada')
  t.notOk(told.includes('-room:1'), 'somebody without a name is there')
  await ada.closed
}

t.test('the first and the last are told, on one instance in memory', t => testEvents(t, { redis: false }, 1))
t.test('the first and the last are told once over a shared memory', t => testEvents(t, { redis: sharedMemory() }, 2))
t.test('the first and the last are told once over Redis', t => testEvents(t, { redis: redis.url, keyPrefix: randomPrefix() }, 3))
t.test('the first and the last are told once over a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  await testEvents(t, { redis: { rootNodes }, keyPrefix: randomPrefix() }, 2)
})

t.test('without a handler nothing is recorded, and one handler alone is enough', async (t) => {
  const direct = await createClient({ url: redis.url }).connect()
  t.teardown(() => direct.destroy())
  const keys = async (prefix: string) => (await direct.keys(`${prefix}:occupancy*`)).length
  const { options: { onOccupied, onVacated, onUserOnline, onUserOffline, ...rest } } = recorder()
  const none = { ...rest, redis: redis.url, keyPrefix: randomPrefix() }
  const app = await startApp(t, none)
  await plain(t, app, 'ada', 'room:1')
  const told: string[] = []
  const some = { ...none, keyPrefix: randomPrefix(), gracePeriod: 0, onUserOffline: (user: string) => { told.push(user) } }
  const client = await plain(t, await startApp(t, some), 'bob', 'room:1')
  client.socket.close()
  await until(() => told.length > 0, 'it is told')
  t.strictSame(told, ['bob'])
  t.equal(await keys(none.keyPrefix), 0)
  t.equal((await direct.keys(`${some.keyPrefix}:occupancy*channels*`)).length, 0)
  t.ok(await keys(some.keyPrefix) > 0)
})

t.test('a subscription that is refused occupies nothing', async (t) => {
  const { told, options, arrives } = recorder()
  const { url } = await startApp(t, { ...options, redis: redis.url, keyPrefix: randomPrefix(), onSubscribe: (_connection, channel) => channel !== 'room:no' })
  const sdk = await sdkClient(t, `${url}/connection/websocket?user=ada`, 'json').connected()
  const refused = sdk.subscribe('room:no')
  await until(() => refused.events.unsubscribed.length > 0, 'it is refused')
  await sdk.subscribe('room:yes').subscribed()
  await arrives('+room:yes')
  t.notOk(told.includes('+room:no'))
})

t.test('who comes and goes within the grace period was never away: a reload, a flapping network', async (t) => {
  const record = recorder()
  const { told, options, arrives } = record
  const settings = { ...options, redis: redis.url, keyPrefix: randomPrefix(), gracePeriod: '2s' }
  const [a, b] = await Promise.all([startApp(t, settings), startApp(t, settings)])
  for (let i = 0; i < 15; i++) {
    const client = await plain(t, i % 2 === 0 ? a : b, 'ada', 'room:1')
    client.socket.terminate()
    await client.closed
  }
  await arrives('-@ada', '-room:1')
  t.strictSame(told.toSorted(), ['+@ada', '+room:1', '-@ada', '-room:1'])
})

t.test('a deployment tells nothing: 200 clients move to another instance at once', async (t) => {
  const { told, options, arrives } = recorder()
  const settings = { ...options, redis: redis.url, keyPrefix: randomPrefix(), gracePeriod: '20s', rateLimit: false } as const
  const old = await startApp(t, settings)
  const balancer = await startBalancer(t, [old.url])
  const clients = Array.from({ length: 200 }, (_, i) => sdkClient(t, `${balancer.url}/connection/websocket?user=user-${i}`, encodings[i % 2]!))
  const subscriptions = clients.map((client, i) => client.subscribe(`room:${i % 50}`))
  await Promise.all(subscriptions.map(subscription => subscription.subscribed()))
  const all = [...clients.map((_, i) => `+@user-${i}`), ...Array.from({ length: 50 }, (_, i) => `+room:${i}`)]
  await arrives(...all)
  const next = await startApp(t, settings)
  balancer.targets = [next.url]
  await old.app.close()
  await until(async () => (await next.app.realtime.users()).length === 200, 'all are back', 60_000)
  await until(async () => (await next.app.realtime.channels()).reduce((sum, { clients }) => sum + clients, 0) === 200, 'in their channels', 60_000)
  const direct = await createClient({ url: redis.url }).connect()
  t.teardown(() => direct.destroy())
  const keys = new RedisKeys(settings.keyPrefix)
  const due = async () => {
    const shards = ['users', 'channels'].flatMap(kind => Array.from({ length: 8 }, (_, i) => keys.occupancyDue(`${kind}:${i}`)))
    return (await Promise.all(shards.map(key => direct.zCard(key)))).reduce((sum, count) => sum + count, 0)
  }
  await until(async () => await due() === 0, 'nobody is in a grace period')
  t.strictSame(told.toSorted(), all.toSorted())
})

t.test('what an instance held that is killed is told once, by another one', async (t) => {
  const { told, options, arrives } = recorder()
  const common = {
    redis: redis.url, keyPrefix: randomPrefix(), gracePeriod: '1s', token: { secret: 'a secret of at least 32 characters' }, channels: { room: { subscribe: true } }
  }
  const { authenticate, ...handlers } = options
  const [a, b] = await Promise.all([startApp(t, { ...handlers, ...common }), startApp(t, { ...handlers, ...common })])
  const { child, exited, urls } = await startServer(t, { options: common, handlers: ['onOccupied', 'onUserOnline'] })
  const tokenOf = (user: string) => new SignJWT({}).setProtectedHeader({ alg: 'HS256' }).setSubject(user).sign(Buffer.from(common.token.secret))
  const join = async (url: string, user: string, channel: string) => {
    const client = await sdkClient(t, url, 'json', { token: await tokenOf(user), maxReconnectDelay: 60_000, minReconnectDelay: 60_000 }).connected()
    await client.subscribe(channel).subscribed()
  }
  await join(urls[0]!, 'ada', 'room:killed')
  await join(urls[0]!, 'bob', 'room:both')
  await join(a.url, 'bob', 'room:both')
  const direct = await createClient({ url: redis.url }).connect()
  t.teardown(() => direct.destroy())
  const held = () => direct.keys(`${common.keyPrefix}:occupancy-held:*`)
  await until(async () => (await held()).length >= 5, 'all is recorded') // 2 users, 2 channels there, and at least one here
  child.kill('SIGKILL')
  await exited
  t.strictSame(told, [], 'the first came to the instance that was killed')
  // As if a minute had passed.
  const living = new Set((await Promise.all([a, b].map(({ app }) => app.inject('/health')))).map(health => health.json().instance))
  const crashed = (await held()).map(key => key.split(':').at(-1)!).find(instance => !living.has(instance))!
  for (const lease of await direct.keys(`${common.keyPrefix}:occupancy-leases:*`)) {
    await direct.zAdd(lease, { value: crashed, score: 1 }, { condition: 'XX' })
  }
  await arrives('-@ada', '-room:killed')
  t.strictSame(told.toSorted(), ['-@ada', '-room:killed'])
})

t.test('a restart of Redis tells nothing twice, and loses nothing', async (t) => {
  const own = await startRedis(t, { persist: true })
  const { told, options, arrives } = recorder()
  const settings = { ...options, redis: own.url, gracePeriod: 200 }
  const [a, b] = await Promise.all([startApp(t, settings), startApp(t, settings)])
  const ada = await plain(t, a, 'ada')
  await plain(t, b, 'bob')
  await arrives('+@ada', '+@bob')
  await own.kill()
  await until(async () => (await a.app.inject('/ready')).json().redis === 'down', 'Redis is down')
  ada.socket.close()
  await plain(t, b, 'cyd')
  await own.restart()
  await arrives('-@ada', '+@cyd')
  t.strictSame(told.toSorted(), ['+@ada', '+@bob', '+@cyd', '-@ada'])
})

t.test('a handler that throws is an error in the log, and the next one is called', async (t) => {
  const { logger, entries } = collectLog()
  const told: string[] = []
  const { options } = recorder()
  const app = await startApp(t, {
    ...options,
    redis: false,
    gracePeriod: 0,
    onUserOnline: async (user) => {
      told.push(user)
      throw new Error(`no room for ${user}`)
    },
    onOccupied: () => { throw new TypeError('broken') }
  }, { logger })
  await plain(t, app, 'ada', 'room:1')
  await plain(t, app, 'bob')
  await until(() => told.length === 2, 'both were told')
  const failed = () => entries.filter(({ event }) => event === 'handler.failed')
  await until(() => failed().length === 3, 'all are logged')
  t.match(failed().find(({ handler }) => handler === 'onUserOnline'), { level: 50, user: 'ada', msg: 'onUserOnline failed: no room for ada', err: { stack: /Error/ } })
  t.match(failed().find(({ handler }) => handler === 'onOccupied'), { level: 50, channel: 'room:1', msg: 'onOccupied failed: broken' })
})

t.test('closing an app tells the others, and waits for a handler that runs', async (t) => {
  const record = recorder()
  const { told, options, arrives } = record
  const settings = { ...options, redis: redis.url, keyPrefix: randomPrefix(), gracePeriod: 50 }
  const slow = {
    ...settings,
    onUserOnline: async (user: string) => {
      await new Promise(resolve => { setTimeout(resolve, 100) })
      told.push(`slowly +@${user}`)
    }
  }
  const [a] = await Promise.all([startApp(t, slow), startApp(t, settings)])
  await plain(t, a, 'ada')
  await until(() => a.app.realtime.isOnline('ada'), 'she is online')
  await a.app.close()
  t.strictSame(told, ['slowly +@ada'])
  await arrives('-@ada')
})

t.test('a Redis that refuses is in the log once, not at every sweep', async (t) => {
  const own = await startRedis(t)
  const { logger, entries } = collectLog()
  const { told, options, arrives } = recorder()
  const app = await startApp(t, { ...options, redis: own.url }, { logger })
  await plain(t, app, 'ada')
  await arrives('+@ada')
  const direct = await createClient({ url: own.url }).connect()
  t.teardown(() => direct.destroy())
  for (const key of await direct.keys('ws:occupancy:*')) await direct.del(key)
  for (let i = 0; i < 8; i++) await direct.set(`ws:occupancy:{users:${i}}`, 'not a hash')
  await plain(t, app, 'bob')
  const refused = () => entries.filter(({ event, call }) => event === 'call.failed' && call.startsWith('onUserOnline'))
  await until(() => refused().length > 0, 'it is logged')
  t.match(refused()[0], { level: 40, err: { code: 'FST_CRWS_REDIS_REFUSED' } })
  for (let i = 0; i < 8; i++) await direct.del(`ws:occupancy:{users:${i}}`)
  await arrives('+@bob')
  t.equal(refused().length, 1)
  t.strictSame(told.filter(text => text.startsWith('-')), [])
})

t.test('what becomes due after the last instance has ended is told by the next one', async (t) => {
  const { told, options, arrives } = recorder()
  const settings = { ...options, redis: redis.url, keyPrefix: randomPrefix(), gracePeriod: 50 }
  const last = await startApp(t, settings)
  await plain(t, last, 'ada', 'room:1')
  await arrives('+@ada', '+room:1')
  await last.app.close()
  await startApp(t, settings)
  await arrives('-@ada', '-room:1')
  t.equal(told.length, 4)
})

t.test('in a test time is fake, and the grace period with it', async (t) => {
  const time = fakeTime()
  t.teardown(() => time.restore())
  const { told, options } = recorder()
  const { app } = await startApp(t, { ...options, redis: false })
  const client = await testClient(app, { query: { user: 'ada' } })
  await time.move('1s')
  client.close()
  await time.move('9s')
  t.strictSame(told, ['+@ada'])
  await time.move('3s')
  t.strictSame(told, ['+@ada', '-@ada'])
})
