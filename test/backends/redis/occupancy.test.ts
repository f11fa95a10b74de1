import { createClient } from 'redis'
import type { RedisClientType } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import type { RedisOption } from '../../../lib/options/redis-source.ts'
import { until } from '../../helpers/until.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis, startRedisCluster } from '../../helpers/redis.ts'
import { range, startNode } from '../broker-contract.ts'
import { Holder, LONG, testOccupancy } from '../occupancy-contract.ts'

t.setTimeout(180_000)
const redis = await startRedis(t)

async function openHolder (t: Test, option: RedisOption, prefix: string, instance: string, gracePeriod: number) {
  const { backend } = await startNode(t, option, prefix)
  return new Holder(listener => backend.occupancy({ kind: 'users', instance, gracePeriod }, listener))
}

async function connectTo (t: Test, url: string): Promise<RedisClientType> {
  const client = createClient({ url }) as RedisClientType
  client.on('error', () => {}) // a test kills its server
  await client.connect()
  t.teardown(() => client.destroy())
  return client
}

const shards = range(0, 7).map(i => `users:${i}`)

/** As if the last sign of life of an instance was a minute ago. */
async function expire (client: RedisClientType, prefix: string, instance: string): Promise<void> {
  const keys = new RedisKeys(prefix)
  for (const shard of shards) await client.zAdd(keys.occupancyLeases(shard), { value: instance, score: 1 }, { condition: 'XX' })
}

async function testOn (t: Test, option: RedisOption): Promise<void> {
  const prefixes = new Map<string, string>()
  testOccupancy(t, async (t, group, settings) => {
    const prefix = prefixes.get(group) ?? randomPrefix()
    prefixes.set(group, prefix)
    const { backend } = await startNode(t, option, prefix)
    return new Holder(listener => backend.occupancy(settings, listener))
  })
}

t.test('on Redis', t => testOn(t, redis.url))
t.test('on a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  await testOn(t, { rootNodes })
})

t.test('what a crashed instance held is told once, after the grace period, and what others hold is not', async (t) => {
  const prefix = randomPrefix()
  const direct = await connectTo(t, redis.url)
  const open = (instance: string) => openHolder(t, redis.url, prefix, instance, 0)
  const [crashed, b, c] = [await open('crashed'), await open('b'), await open('c')]
  const names = range(1, 5_000).map(i => `user ${i}`) // more than one script call takes, in each shard
  await crashed.enter(...names)
  await b.enter('user 1', 'bob')
  await Promise.all([b.sweep(), c.sweep()])
  t.strictSame([...b.told, ...c.told], ['+bob'])
  await expire(direct, prefix, 'crashed')
  const told = () => [...b.told, ...c.told].filter(text => text.startsWith('-'))
  await until(async () => {
    await Promise.all([b.sweep(Date.now() + 1_000), c.sweep(Date.now() + 1_000)])
    return told().length >= names.length - 1
  }, 'all is told', 60_000)
  await Promise.all([b.sweep(), c.sweep()])
  t.strictSame(told().toSorted(), names.slice(1).map(name => `-${name}`).toSorted())
  t.strictSame(await direct.keys(`${prefix}:occupancy-held:*:crashed`), [])
})

t.test('an instance that stalled, and was taken for crashed, tells again who is there', async (t) => {
  const prefix = randomPrefix()
  const direct = await connectTo(t, redis.url)
  const open = (instance: string) => openHolder(t, redis.url, prefix, instance, 0)
  const [stalled, b] = [await open('stalled'), await open('b')]
  await stalled.enter('ada', 'bob', 'cyd')
  await b.enter('cyd')
  await expire(direct, prefix, 'stalled')
  await until(async () => {
    await b.sweep(Date.now() + 1_000)
    return b.told.length === 2
  }, 'two are told as gone')
  t.strictSame(b.told.toSorted(), ['-ada', '-bob'])
  stalled.held.delete('bob') // he has left meanwhile
  for (let i = 0; i < 2; i++) await stalled.sweep()
  t.strictSame(stalled.told.slice(3), ['+ada'])
  await b.leave('cyd')
  await b.sweep()
  t.equal(b.told.length, 2, 'cyd is at the other one, too')
})

t.test('what happens while Redis is down is told when it is back, and what was told is not told twice', async (t) => {
  const own = await startRedis(t, { persist: true })
  const prefix = randomPrefix()
  const [a, b] = [await openHolder(t, own.url, prefix, 'a', 0), await openHolder(t, own.url, prefix, 'b', 0)]
  await a.enter('ada', 'bob')
  await b.enter('cyd')
  await own.kill()
  await Promise.all([a.enter('dan'), a.leave('ada'), b.enter('dan'), b.leave('cyd'), b.enter('bob')])
  t.ok(a.errors.length > 0)
  t.match(a.errors[0], { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
  await own.restart()
  const told = () => [...a.told, ...b.told].toSorted()
  await until(async () => {
    await Promise.all([a.sweep(Date.now() + 1_000), b.sweep(Date.now() + 1_000)])
    return told().length >= 6
  }, 'all is told', 30_000)
  await Promise.all([a.sweep(), b.sweep()])
  t.strictSame(told(), ['+ada', '+bob', '+cyd', '+dan', '-ada', '-cyd'])
})

t.test('a Redis that comes back empty: nobody who is still there is told again, and who has left meanwhile is told', async (t) => {
  const own = await startRedis(t)
  const prefix = randomPrefix()
  const [a, b] = [await openHolder(t, own.url, prefix, 'a', 0), await openHolder(t, own.url, prefix, 'b', 0)]
  await a.enter('ada', 'bob', 'cyd')
  await b.enter('cyd', 'dan')
  await own.kill()
  await Promise.all([a.leave('bob'), a.leave('cyd'), b.enter('eva')])
  await own.restart()
  for (const one of [a, b]) one.occupancy.recheck() // as the return of Redis does
  const told = () => [...a.told, ...b.told].toSorted()
  await until(async () => {
    await Promise.all([a.sweep(Date.now() + 1_000), b.sweep(Date.now() + 1_000)])
    return told().length >= 6
  }, 'all is told', 30_000)
  for (let i = 0; i < 3; i++) await Promise.all([a.sweep(Date.now() + 1_000), b.sweep(Date.now() + 1_000)])
  t.strictSame(told(), ['+ada', '+bob', '+cyd', '+dan', '+eva', '-bob'])
  await b.leave('cyd')
  await until(async () => {
    await b.sweep(Date.now() + 1_000)
    return b.told.includes('-cyd')
  }, 'and all goes on as before')
})

t.test('data that is lost without a word is noticed at the next look', async (t) => {
  const own = await startRedis(t)
  const direct = await connectTo(t, own.url)
  const prefix = randomPrefix()
  const [a, b] = [await openHolder(t, own.url, prefix, 'a', LONG), await openHolder(t, own.url, prefix, 'b', LONG)]
  await a.enter('ada')
  await direct.del(await direct.keys(`${prefix}:*`))
  for (let i = 0; i < 2; i++) await a.sweep()
  await b.enter('ada')
  t.strictSame([...a.told, ...b.told], ['+ada'])
})

t.test('a Redis that carries out what it could not answer loses no event', async (t) => {
  const own = await startRedis(t)
  const prefix = randomPrefix()
  const a = await openHolder(t, own.url, prefix, 'a', 0)
  await a.enter('ada')
  own.freeze()
  await Promise.all([a.enter('bob'), a.leave('ada')])
  t.equal(a.errors.length > 0, true)
  own.thaw()
  await until(async () => {
    await a.sweep(Date.now() + 1_000)
    return a.told.length >= 3
  }, 'all is told', 30_000)
  await a.sweep()
  t.strictSame(a.told.toSorted(), ['+ada', '+bob', '-ada'])
})

t.test('every key has a time to live', async (t) => {
  const prefix = randomPrefix()
  const direct = await connectTo(t, redis.url)
  const ttls = async () => {
    const keys = await direct.keys(`${prefix}:*`)
    return Promise.all(keys.map(async key => [key, await direct.pTTL(key)] as const))
  }
  const [a, b] = [await openHolder(t, redis.url, prefix, 'a', LONG), await openHolder(t, redis.url, prefix, 'b', LONG)]
  await a.enter('ada', 'bob')
  await a.leave('bob')
  await b.sweep()
  const live = await ttls()
  t.ok(live.length > 8)
  t.strictSame(live.filter(([, ttl]) => ttl <= 0), [])
  await expire(direct, prefix, 'a')
  await b.sweep()
  t.strictSame((await ttls()).filter(([, ttl]) => ttl <= 0), [], 'after a crash, too')
})

t.test('an instance where nobody comes or goes sends one command a sweep', async (t) => {
  const own = await startRedis(t)
  const direct = await connectTo(t, own.url)
  const a = await openHolder(t, own.url, randomPrefix(), 'a', LONG)
  await a.enter(...range(1, 1_000).map(String))
  await a.sweep()
  const scripts = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await direct.info('commandstats'))?.[1] ?? 0)
  const before = await scripts()
  await a.sweep() // nine of them
  t.equal(await scripts() - before, 9)
})
