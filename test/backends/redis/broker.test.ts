import { execFileSync } from 'node:child_process'
import { setImmediate, setTimeout as wait } from 'node:timers/promises'
import { createClient, RESP_TYPES } from 'redis'
import type { RedisClientOptions } from 'redis'
import t from 'tap'
import { RedisBroker } from '../../../lib/backends/redis/broker.ts'
import { StandaloneCommands } from '../../../lib/backends/redis/commands.ts'
import { StandaloneEndpoint } from '../../../lib/backends/redis/endpoint.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import { publishWithHistory } from '../../../lib/backends/redis/scripts.ts'
import { StandaloneSubscriber } from '../../../lib/backends/redis/subscriber.ts'
import { encodePublication } from '../../../lib/backends/redis/wire-format.ts'
import { decodePayload, encodePayload } from '../../../lib/model/publication.ts'
import { history, range, startNode, testBroker } from '../broker-contract.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { findProgram } from '../../helpers/programs.js'
import { command, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const redis = await startRedis(t)
const direct = createClient({ url: redis.url })
await direct.connect()
t.teardown(() => direct.destroy())

t.test('on a Redis named by its URL', async (t) => {
  testBroker(t, async (t) => {
    const prefix = randomPrefix()
    return [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  })
})

t.test('on a client of the host', async (t) => {
  testBroker(t, async (t) => {
    const prefix = randomPrefix()
    return [await startNode(t, direct, prefix), await startNode(t, redis.url, prefix)]
  })
})

t.test('a client of the host stays open and usable when the broker is closed', async (t) => {
  const client = createClient({ url: redis.url })
  t.teardown(() => client.destroy())
  await client.connect()
  const node = await startNode(t, client, randomPrefix())
  await node.subscribe('room', true)
  await node.broker.close()
  t.equal(client.isReady, true)
  t.equal(await client.ping(), 'PONG')
  await t.rejects(node.publish('room', 1, { history }), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
})

t.test('a client of the host may be configured for other uses, and need not be connected', async (t) => {
  const prefix = randomPrefix()
  const options: Array<Record<string, unknown>> = [
    { commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer, [RESP_TYPES.NUMBER]: String, [RESP_TYPES.MAP]: Array } } },
    { RESP: 2 }, { database: 3 }, { keyPrefix: 'app:' }, { name: 'host' },
    { socket: { reconnectStrategy: false, socketTimeout: 50 } }, { disableOfflineQueue: false, commandsQueueMaxLength: 1, pingInterval: 10 }
  ]
  for (const option of options) {
    const client = createClient({ url: redis.url, ...option } as RedisClientOptions)
    const node = await startNode(t, client as never, prefix)
    const other = await startNode(t, redis.url, prefix)
    const channel = Object.keys(option).join()
    await node.subscribe(channel, true)
    const { epoch } = await node.publish(channel, 1, { history })
    if (option.database === undefined) t.strictSame(await other.publish(channel, 2, { history }), { offset: 2, epoch })
    else await node.publish(channel, 2, { history })
    await node.arrived(channel, 2)
    t.strictSame(node.data(channel), [1, 2], channel)
    t.strictSame((await node.broker.history(channel, { limit: 10 })).publications.map(decodePayload), [1, 2])
    const { sessions, presence } = node.backend
    await sessions.set('ada', new Map([['a', '1']]), 60_000)
    t.strictSame(await sessions.get('ada'), new Map([['a', '1']]))
    await presence.add(channel, [{ client: '1', user: 'ada' }])
    t.strictSame(await presence.list(channel), [{ client: '1', user: 'ada' }])
    await Promise.all([node, other].map(({ broker }) => broker.close()))
    t.equal(client.isOpen, false)
  }
})

t.test('every key has a time to live', async (t) => {
  const prefix = randomPrefix()
  const node = await startNode(t, redis.url, prefix)
  const { presence, sessions, rateLimitStore } = node.backend
  const RateLimitStore = rateLimitStore!
  await node.broker.history('read', { limit: 10 })
  await node.subscribe('subscribed', true)
  await node.publish('with', 1, { history })
  await node.publish('with', 1, { history, idempotencyKey: 'key' })
  await node.publish('without', 1)
  await node.publish('without', 1, { idempotencyKey: 'key' })
  await node.publish('without', 1, { idempotencyKey: 'key' })
  await presence.add('room', [{ client: '1', user: 'ada' }, { client: '2', user: 'ada' }])
  await presence.remove('room', '1')
  await presence.list('room')
  await presence.list('nobody')
  await presence.stats('room')
  await presence.stats('nobody')
  await sessions.set('ada', new Map([['a', '1']]), 60_000)
  await sessions.set('ada', new Map([['a', undefined], ['b', '2']]), 60_000)
  await sessions.set('nobody', new Map([['a', undefined]]), 60_000)
  await new Promise<void>((resolve, reject) => new RateLimitStore().incr('127.0.0.1', error => error ? reject(error) : resolve(), 60_000))

  const keys: string[] = []
  for await (const batch of direct.scanIterator({ MATCH: `${prefix}*`, COUNT: 1_000 })) keys.push(...batch)
  t.strictSame(keys.toSorted(), [
    'members-until:{room}', 'members-users:{room}', 'members:{room}', 'position:{read}', 'position:{subscribed}', 'position:{with}',
    'rate-limit:{127.0.0.1}', 'result:{with}:key', 'result:{without}:key', 'sequences:{without}', 'session:{ada}',
    'stream:{with}'
  ].map(key => `${prefix}:${key}`).toSorted())
  for (const key of keys) t.ok(await direct.pTTL(key) > 0, key)
})

t.test('two apps with different prefixes do not hear each other', async (t) => {
  const a = await startNode(t, redis.url, randomPrefix())
  const b = await startNode(t, redis.url, randomPrefix())
  for (const node of [a, b]) await node.subscribe('room', true)
  await a.publish('room', 'a', { history })
  await b.publish('room', 'b', { history })
  for (const node of [a, b]) await node.arrived('room', 1)
  t.strictSame([a.data('room'), b.data('room')], [['a'], ['b']])
})

t.test('a foreign message on our Pub/Sub channel is counted as missed and does no harm', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  const foreign = ['', ' ', 'hello', 'a b c', '1 epoch', '1 epoch nonsense', 'x epoch j 1 a 1\n{}', '0  j 1\n', '0  j x a 1\n', `${'9'.repeat(400)} e `]
  for (const withHistory of [true, false]) {
    const channel = `room-${withHistory}`
    await node.subscribe(channel, withHistory)
    await node.publish(channel, 1, withHistory ? { history } : {})
    for (const message of foreign) await direct.publish(keys.pubsub(channel), message)
    await node.publish(channel, 2, withHistory ? { history } : {})
    await node.arrived(channel, 2)
    t.strictSame(node.data(channel), [1, 2])
    t.equal(node.missedIn(channel), foreign.length)
  }
})

t.test('a foreign entry in the stream does no harm', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  await node.subscribe('room', true)
  await node.publish('room', 1, { history })
  await direct.xAdd(keys.stream('room'), '1-1', { what: 'else' })
  await direct.xAdd(keys.stream('room'), '1-2', { d: 'not ours' })
  await node.publish('room', 2, { history })
  t.strictSame((await node.broker.history('room', { limit: 10 })).publications.map(decodePayload), [1, 2])

  // With an id that Redis made, a time, it stands in the way of every offset to come.
  await direct.xAdd(keys.stream('room'), '*', { what: 'else' })
  const { epoch } = await node.publish('room', 3, { history })
  t.strictSame(await node.publish('room', 4, { history }), { offset: 4, epoch })
  await direct.set(keys.stream('room'), 'not even a stream')
  await node.publish('room', 5, { history })
  await node.arrived('room', 5)
  t.strictSame(node.data('room'), [1, 2, 3, 4, 5])
  t.strictSame((await node.broker.history('room', { limit: 10 })).publications.map(decodePayload), [5])
  t.strictSame(node.missedBefore, [])
})

t.test('a Redis that forgets its scripts gets them again', async (t) => {
  const prefix = randomPrefix()
  const node = await startNode(t, redis.url, prefix)
  await node.subscribe('room', true)
  for (const i of range(1, 3)) {
    await direct.sendCommand(['SCRIPT', 'FLUSH'])
    t.match(await node.publish('room', i, { history }), { offset: i })
  }
  await direct.sendCommand(['SCRIPT', 'FLUSH'])
  t.strictSame((await node.broker.history('room', { limit: 10 })).publications.map(decodePayload), [1, 2, 3])
  await node.arrived('room', 3)
  t.strictSame(node.data('room'), [1, 2, 3])
})

t.test('what Redis refuses is rejected with a code, changes nothing, and the next attempt works', async (t) => {
  const full = await startRedis(t)
  const admin = createClient({ url: full.url })
  await admin.connect()
  t.teardown(() => admin.destroy())
  const node = await startNode(t, full.url, randomPrefix())
  await node.subscribe('room', true)
  const { epoch } = await node.publish('room', 1, { history })
  await admin.configSet('maxmemory', '1')
  await t.rejects(node.publish('room', 'no room', { history }), { code: 'FST_CRWS_REDIS_REFUSED', cause: { message: /OOM/ } })
  await t.rejects(node.publish('room', 'no room', { history, idempotencyKey: 'key' }), { code: 'FST_CRWS_REDIS_REFUSED', cause: { message: /OOM/ } })
  t.equal(node.broker.up, true)
  await admin.configSet('maxmemory', '0')
  t.strictSame(await node.publish('room', 2, { history, idempotencyKey: 'key' }), { offset: 2, epoch })
  await node.arrived('room', 2)
  t.strictSame(node.data('room'), [1, 2])
})

t.test('a position that Redis evicted begins again, and subscribers follow', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  await node.subscribe('room', true)
  const first = await node.publish('room', 1, { history })
  await direct.del(keys.position('room'))
  const second = await node.publish('room', 2, { history })
  t.equal(second.offset, 1)
  t.not(second.epoch, first.epoch)
  await node.arrived('room', 2)
  t.strictSame(node.data('room'), [1, 2])
  t.strictSame((await node.broker.history('room', { limit: 10 })).publications.map(decodePayload), [2], 'the old entries are not of this epoch')
  t.match(node.missedBefore, [{ channel: 'room', count: 1, why: /lost the history/ }])
})

t.test('a publication that Pub/Sub lost unnoticed is found when the position of the quiet channel is verified', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const endpoint = new StandaloneEndpoint({ kind: 'standalone', options: { url: redis.url } })
  const commands = new StandaloneCommands(endpoint, keys, () => {})
  const broker = new RedisBroker(commands, new StandaloneSubscriber(endpoint, keys, () => {}), keys, 100)
  const node = await startNode(t, redis.url, prefix, broker)
  await node.subscribe('room', true)
  await node.subscribe('complete', true)
  for (const channel of ['room', 'complete']) await node.publish(channel, 1, { history })
  const lost = encodePublication({ ...encodePayload(2), time: 1, instance: 'other', sequence: 0, offset: 0, epoch: '' })
  // It is stored, but published where nobody listens.
  const reply = await direct.eval(publishWithHistory.text, {
    keys: [keys.stream('room'), keys.position('room')],
    arguments: [lost.toString(), '100', '60000', '60000', 'PUBLISH', 'elsewhere', '60000', 'unused', '', '0', '', '']
  })
  t.match(reply, [2])
  await node.arrived('room', 2)
  t.strictSame(node.data('room'), [1, 2])
  t.strictSame(node.publications('room').map(({ offset }) => offset), [1, 2])
  await node.publish('room', 3, { history })
  await node.arrived('room', 3)
  t.strictSame([node.data('room'), node.data('complete')], [[1, 2, 3], [1]])
  t.strictSame(node.missedBefore, [])
})

t.test('what a channel without history has missed is counted by instance, and what was not published is not', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const [a, b] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  await a.subscribe('room', false)
  await b.publish('room', 1, { idempotencyKey: 'key' })
  await b.publish('room', 1, { idempotencyKey: 'key' })
  await a.publish('room', 1, { idempotencyKey: 'key' })
  await a.publish('room', 2)
  await b.publish('room', 3)
  await a.arrived('room', 3)
  t.strictSame(a.data('room'), [1, 2, 3])
  t.strictSame(a.missedBefore, [])

  // Somebody publishes what our instance has not seen the beginning of, and then loses two.
  for (const sequence of [7, 8, 11]) await direct.publish(keys.pubsub('room'), `0  j 1 other ${sequence}\n${sequence}`)
  await a.arrived('room', 6)
  t.strictSame(a.data('room'), [1, 2, 3, 7, 8, 11])
  t.match(a.missedBefore, [{ channel: 'room', count: 2, why: /no history/ }])
})

t.test('a repeat that is not published, and what is published in the same turn, make nobody miss anything', async (t) => {
  const prefix = randomPrefix()
  const [a, b] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  await a.subscribe('room', false)
  await b.publish('room', 1, { idempotencyKey: 'key' })
  await b.publish('room', 2)
  await Promise.all([b.publish('room', 1, { idempotencyKey: 'key' }), b.publish('room', 3)])
  await b.publish('room', 4)
  await a.arrived('room', 4)
  t.strictSame(a.data('room'), [1, 2, 3, 4])
  t.strictSame(a.missedBefore, [])
})

t.test('instances publish to more channels than they count sequences for', async (t) => {
  const prefix = randomPrefix()
  const [a, b] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  await a.subscribe('room', false)
  await b.publish('room', 1)
  await b.publish('room', 2)
  for (const batch of range(1, 10)) await Promise.all(range(1, 1_000).map(i => b.publish(`other-${batch}-${i}`, i)))
  await b.publish('room', 3)
  await b.publish('room', 4)
  await a.arrived('room', 4)
  t.strictSame(a.data('room'), [1, 2, 3, 4])
  t.strictSame(a.missedBefore, [])
})

t.test('Redis is told that nobody is in a channel any more', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  await node.subscribe('room', false)
  const subscribers = async () => Object.values(await direct.pubSubNumSub([keys.pubsub('room')]))[0]
  t.equal(await subscribers(), 1)
  node.broker.unsubscribe('room')
  await until(async () => await subscribers() === 0, 'the subscription is gone')
})

t.test('publications that are not awaited stay in order while Redis forgets its scripts again and again', async (t) => {
  const redis = await startRedis(t)
  const node = await startNode(t, redis.url, randomPrefix())
  await node.subscribe('room', true)
  const total = 2_000
  const published: Array<Promise<unknown>> = []
  let flushes = 0
  for (let i = 1; i <= total; i++) {
    published.push(node.publish('room', i, { history: { size: total, ttl: 60_000 } }))
    if (i % 20 === 0) await wait(1) // so that they are under way in many writes
    if (i % 100 === 0) {
      command(redis.port, ['SCRIPT', 'FLUSH'], 10_000).then(() => { flushes++ }, () => {})
    }
  }
  await Promise.all(published)
  await node.arrived('room', total)
  t.ok(flushes > 5, `${flushes} times`)
  t.strictSame(node.data('room'), range(1, total))
})

/** Takes the newest publications of a channel out of Redis, as a snapshot or a replica from before them would. */
async function goBack (keys: RedisKeys, channel: string, to: number): Promise<void> {
  const position = await direct.hGetAll(keys.position(channel))
  for (let offset = to + 1; offset <= Number(position.s); offset++) await direct.xDel(keys.stream(channel), `${offset}-0`)
  // Added again, as entries that were deleted still forbid their ids.
  const entries = await direct.xRange(keys.stream(channel), '-', '+')
  await direct.del(keys.stream(channel))
  for (const { id, message } of entries ?? []) await direct.xAdd(keys.stream(channel), id, message)
  await direct.hSet(keys.position(channel), 's', to)
}

t.test('a Redis that has gone back gives no offset twice in one epoch, and the publisher is told what is lost', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  for (const i of range(1, 5)) await node.publish('room', i, { history })
  const { epoch } = await node.broker.history('room', { limit: 0 })
  await goBack(keys, 'room', 3)
  const next = await node.publish('room', 6, { history })
  t.equal(next.offset, 4)
  t.not(next.epoch, epoch)
  t.match(node.missedBefore, [{ channel: 'room', count: 2, why: /lost publications/ }], 'though nobody is subscribed')
  const read = await node.broker.history('room', { limit: 10 })
  t.strictSame(read.publications.map(decodePayload), [1, 2, 3, 6])
  t.strictSame(await node.publish('room', 7, { history }), { offset: 5, epoch: next.epoch }, 'once')
})

t.test('a read finds out as well that Redis has gone back', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  for (const i of range(1, 5)) await node.publish('room', i, { history })
  const before = await node.broker.history('room', { limit: 0 })
  await goBack(keys, 'room', 3)
  const after = await node.broker.history('room', { limit: 0 })
  t.equal(after.offset, 3)
  t.not(after.epoch, before.epoch)
  await t.rejects(node.broker.history('room', { limit: 10, since: { offset: 5, epoch: before.epoch } }), { code: 'FST_CRWS_UNRECOVERABLE_POSITION' })
})

t.test('where others have given the lost offsets again, the subscriber that has seen them first finds another publication there', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const [seen, other] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  await seen.subscribe('room', true)
  for (const i of range(1, 5)) await seen.publish('room', i, { history })
  await seen.arrived('room', 5)
  const { epoch } = await seen.broker.history('room', { limit: 0 })
  await goBack(keys, 'room', 3)
  await direct.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub'])
  for (const i of range(14, 17)) await other.publish('room', i, { history })
  await until(() => seen.positionsLost.length > 0, 'its subscribers are told', 30_000)
  t.not((await seen.broker.history('room', { limit: 0 })).epoch, epoch)
  t.ok(seen.missedIn('room') > 0)
  await other.publish('room', 18, { history })
  await until(() => seen.data('room').at(-1) === 18, 'it goes on')
  t.strictSame(seen.data('room').slice(0, 5), [1, 2, 3, 4, 5])
  t.strictSame(seen.data('room').slice(5), seen.data('room').slice(5).toSorted(), 'none twice, in order; what is missing was told')
})

t.test('a publication with an idempotency key in a channel without history is counted by who misses it', async (t) => {
  const prefix = randomPrefix()
  const [a, b] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  await a.subscribe('room', false)
  for (const i of range(1, 3)) await b.publish('room', i, { idempotencyKey: String(i) })
  await a.arrived('room', 3)
  await direct.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub'])
  for (const i of range(4, 5)) await b.publish('room', i, { idempotencyKey: String(i) })
  await Promise.all([a.up(), b.up()])
  for (const i of range(4, 6)) await b.publish('room', i, { idempotencyKey: String(i) })
  await until(() => a.data('room').includes(6), 'the last one arrives', 30_000)
  t.equal(a.missedIn('room'), 6 - a.data('room').length)
  await b.publish('room', 7)
  await until(() => a.data('room').includes(7), 'the other one arrives')
  t.equal(a.missedIn('room'), 7 - a.data('room').length, 'what is counted here is counted apart')
})

t.test('what an instance without history publishes ends the epoch of those with history, but what it chose not to keep does not', async (t) => {
  const prefix = randomPrefix()
  const [withHistory, without] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  const { epoch } = await withHistory.publish('room', 1, { history })
  await without.publish('room', 2, { history: false })
  t.equal((await withHistory.broker.history('room', { limit: 0 })).epoch, epoch)
  await without.publish('room', 3)
  const read = await withHistory.broker.history('room', { limit: 10 })
  t.not(read.epoch, epoch)
  t.strictSame(read.publications.map(decodePayload), [1])
  await without.publish('other', 1)
  t.equal(await direct.exists(new RedisKeys(prefix).position('other')), 0, 'a channel that never had history gets no position')
})

t.test('a publish that was overtaken after SCRIPT FLUSH fails, and is not stored behind a later one', async (t) => {
  const node = await startNode(t, redis.url, randomPrefix())
  await node.subscribe('room', true)
  await node.publish('room', 0, { history })
  const publish = (i: number) => node.publish('room', i, { history }).then(() => i, (error: { code: string }) => error.code)
  await direct.scriptFlush()
  const early = [publish(1), publish(2)]
  await setImmediate() // node-redis has written them
  // Another instance finds the script missing. This process is blocked meanwhile, so it has not read the replies.
  execFileSync(findProgram('redis-cli')!, ['-p', new URL(redis.url).port, 'SCRIPT', 'LOAD', publishWithHistory.text])
  const outcomes = await Promise.all([...early, publish(3)])
  t.strictSame(outcomes, ['FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_UNAVAILABLE', 3])
  await node.publish('room', 4, { history })
  await until(() => node.data('room').at(-1) === 4, 'all have arrived')
  t.strictSame(node.data('room'), [0, ...outcomes.filter(outcome => typeof outcome === 'number'), 4])
})

t.test('the same where a publication has a key', async (t) => {
  const prefix = randomPrefix()
  const [withHistory, without] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  const { epoch } = await withHistory.publish('room', 1, { history })
  await without.publish('room', 2, { idempotencyKey: 'key' })
  t.not((await withHistory.broker.history('room', { limit: 0 })).epoch, epoch)
})

t.test('a subscriber that has received nothing yet finds another publication where it began', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const [seen, other] = [await startNode(t, redis.url, prefix), await startNode(t, redis.url, prefix)]
  for (const i of range(1, 10)) await other.publish('room', i, { history })
  await seen.subscribe('room', true)
  await other.broker.close()
  await goBack(keys, 'room', 8)
  const fresh = await startNode(t, redis.url, prefix)
  await direct.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub'])
  await Promise.all(range(19, 21).map(i => fresh.publish('room', i, { history })))
  await until(() => seen.positionsLost.length > 0, 'its subscribers are told', 30_000)
  t.ok(seen.missedIn('room') > 0)
})

t.test('what a read finds to be lost is counted', async (t) => {
  const prefix = randomPrefix()
  const node = await startNode(t, redis.url, prefix)
  for (const i of range(1, 5)) await node.publish('room', i, { history })
  await goBack(new RedisKeys(prefix), 'room', 2)
  await node.broker.history('room', { limit: 10 })
  t.match(node.missedBefore, [{ channel: 'room', count: 3, why: /lost publications/ }])
})

t.test('an epoch that had ended does not come back with an older snapshot', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  const first = await node.publish('room', 1, { history })
  await direct.del([keys.position('room'), keys.stream('room')])
  const second = await node.publish('room', 2, { history })
  t.not(second.epoch, first.epoch)
  await direct.hSet(keys.position('room'), { e: first.epoch!, s: '1' })
  const third = await node.publish('room', 3, { history })
  t.notOk([first.epoch, second.epoch].includes(third.epoch))
})

t.test('names that nobody has published to are soon forgotten', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const node = await startNode(t, redis.url, prefix)
  await node.broker.history('invented', { limit: 10 })
  const ttl = await direct.pTTL(keys.position('invented'))
  t.ok(ttl > 60_000 && ttl <= 120_000, `${ttl} ms`)
  await node.publish('invented', 1, { history })
  t.ok(await direct.pTTL(keys.position('invented')) > 6 * 24 * 3_600_000)
})
