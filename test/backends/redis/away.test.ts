import { setImmediate, setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { decodePayload } from '../../../lib/model/publication.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import type { HistorySettings } from '../../../lib/model/broker.ts'
import { history, range, startNode } from '../broker-contract.ts'
import type { Node } from '../broker-contract.ts'
import { startApp } from '../../helpers/app.ts'
import { publishUntilStored } from '../../helpers/cluster-nodes.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, ping, startRedis } from '../../helpers/redis.ts'
import type { RedisOptions } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

/** One Redis, an instance that publishes, and a listener. A test can lock the listener out for as long as it wants. */
async function setUp (t: Test, options: RedisOptions = {}) {
  const redis = await startRedis(t, options)
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const acl = (...rules: string[]) => command(redis.port, ['ACL', 'SETUSER', 'listener', ...rules])
  const letIn = () => acl('on', '>secret', '~*', '&*', '+@all')
  await letIn()
  const listener = await startNode(t, `redis://listener:secret@127.0.0.1:${redis.port}`, prefix)
  const publisher = await startNode(t, redis.url, prefix)
  const lockOut = async () => {
    await acl('off')
    await command(redis.port, ['CLIENT', 'KILL', 'USER', 'listener'])
    await listener.down()
  }
  const comeBack = async () => {
    await letIn()
    await listener.up()
  }
  return { redis, prefix, keys, acl, listener, publisher, lockOut, comeBack }
}

async function publishAll (node: Node, channel: string, data: number[], history?: HistorySettings): Promise<void> {
  for (const one of data) await node.publish(channel, one, { history })
}

const UNAVAILABLE = { code: 'FST_CRWS_REDIS_UNAVAILABLE' }

t.test('an instance that is cut off gets exactly what was published meanwhile, in order and once', async (t) => {
  const { listener, publisher, lockOut, comeBack } = await setUp(t)
  await listener.subscribe('room', true)
  await listener.subscribe('quiet', true)
  await listener.subscribe('plain', false)
  await publishAll(publisher, 'room', [1, 2, 3], history)
  await publishAll(publisher, 'plain', [1, 2])
  await listener.arrived('room', 3)
  await listener.arrived('plain', 2)

  await lockOut()
  t.match(listener.states.at(-1), { up: false, reason: /\w/ })
  await publishAll(publisher, 'room', range(4, 20), history)
  await publishAll(publisher, 'plain', [3, 4, 5])
  await comeBack()
  await listener.arrived('room', 20)
  await publishAll(publisher, 'room', [21], history)
  await publishAll(publisher, 'plain', [6])
  await listener.arrived('room', 21)
  await listener.arrived('plain', 3)

  t.strictSame(listener.data('room'), range(1, 21))
  t.strictSame(listener.publications('room').map(({ offset }) => offset), range(1, 21))
  t.strictSame(listener.data('plain'), [1, 2, 6])
  t.match(listener.missedBefore, [{ channel: 'plain', count: 3, why: /no history/ }], 'and without history it is said how many are lost')
  t.strictSame(listener.states.map(({ up }) => up), [true, false, true])
})

t.test('cutting the Pub/Sub link over and over loses nothing and doubles nothing', async (t) => {
  const { redis, listener, publisher } = await setUp(t)
  await listener.subscribe('room', true)
  const count = 1_500
  const publishing = publishAll(publisher, 'room', range(1, count), { size: count, ttl: 60_000 })
  let killed = 0
  while (listener.publications('room').length < count - 200) {
    killed += Number(await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub'], 10_000))
    const before = listener.publications('room').length
    await until(() => listener.publications('room').length > before, 'publications arrive again', 30_000)
  }
  await publishing
  await listener.arrived('room', count)
  t.ok(killed > 1, `${killed} links were cut`)
  t.strictSame(listener.data('room'), range(1, count))
  t.strictSame(listener.missedBefore, [])
})

t.test('when its links are cut while it publishes, what is said to be stored is stored, and what is said to be not stored is not', async (t) => {
  const { redis, listener, publisher } = await setUp(t)
  await listener.subscribe('room', true)
  const size = 10_000
  const outcomes = new Map<number, string>()
  let next = 0
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const publishing = Promise.all(range(1, 5).map(async () => {
    while (!stop.signal.aborted) {
      const i = ++next
      outcomes.set(i, await publisher.publish('room', i, { history: { size, ttl: 60_000 } }).then(() => 'stored', error => error.code))
      await setImmediate() // a publish that is refused at once gives way to nobody
    }
  }))
  for (const goal of range(1, 10)) {
    await until(() => listener.publications('room').length >= goal * 50, 'publications arrive', 30_000)
    await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'normal'], 10_000)
  }
  stop.abort()
  await publishing
  await publishUntilStored(publisher, 'room', 'end', { size, ttl: 60_000 })
  await until(() => listener.data('room').at(-1) === 'end', 'the last one arrives', 30_000)
  const arrived = new Set(listener.data('room'))
  const unknown = new Set(['FST_CRWS_REDIS_NO_ANSWER', 'stored', 'FST_CRWS_REDIS_UNAVAILABLE'])
  t.equal(arrived.size, listener.publications('room').length, 'none arrived twice')
  t.ok([...outcomes.values()].every(outcome => unknown.has(outcome)))
  t.strictSame([...outcomes].filter(([i, outcome]) => outcome === 'stored' && !arrived.has(i)), [])
  t.strictSame([...outcomes].filter(([i, outcome]) => outcome === 'FST_CRWS_REDIS_UNAVAILABLE' && arrived.has(i)), [])
  t.strictSame(listener.missedBefore, [])
})

t.test('a Redis that crashes and comes back with its data costs nothing', async (t) => {
  const { redis, listener, publisher, comeBack } = await setUp(t, { persist: true })
  await listener.subscribe('room', true)
  await publishAll(publisher, 'room', [1, 2, 3], history)
  await listener.arrived('room', 3)
  await redis.kill()
  await Promise.all([listener.down(), publisher.down()])
  await redis.restart() // without the listener's user, so that it comes later
  await publisher.up()
  await publishAll(publisher, 'room', [4, 5, 6], history)
  await comeBack()
  await listener.arrived('room', 6)
  t.strictSame(listener.data('room'), range(1, 6))
  t.strictSame(listener.publications('room').map(({ offset }) => offset), range(1, 6))
  t.strictSame(listener.missedBefore, [])
})

t.test('a Redis that comes back empty is reported, and all that is published from then on arrives', async (t) => {
  const { redis, listener, publisher, comeBack } = await setUp(t)
  await listener.subscribe('room', true)
  await listener.subscribe('quiet', true)
  await publishAll(publisher, 'room', [1, 2, 3], history)
  await listener.arrived('room', 3)
  await redis.kill()
  await Promise.all([listener.down(), publisher.down()])
  await redis.restart()
  await publisher.up()
  await publishAll(publisher, 'room', [4, 5], history)
  await comeBack()
  await publishAll(publisher, 'room', [6], history)
  await listener.arrived('room', 6)
  t.strictSame(listener.data('room'), range(1, 6))
  const [first, , , fourth] = listener.publications('room')
  t.not(fourth!.epoch, first!.epoch)
  t.strictSame(listener.publications('room').map(({ offset }) => offset), [1, 2, 3, 1, 2, 3])
  await until(() => listener.positionsLost.includes('quiet'), 'both channels are reported')
  t.match(listener.missedBefore, [{ channel: 'room', count: 1 }])
  t.equal(listener.missedIn('quiet'), 0, 'nothing was published there that could be lost')
  await publishAll(publisher, 'quiet', [1], history)
  await listener.arrived('quiet', 1)
})

t.test('a Redis that comes back with an older state is reported, and all that is published from then on arrives', async (t) => {
  const { redis, listener, publisher, comeBack } = await setUp(t)
  await listener.subscribe('room', true)
  await publishAll(publisher, 'room', range(1, 3), history)
  await command(redis.port, ['SAVE'])
  await publishAll(publisher, 'room', range(4, 9), history)
  await listener.arrived('room', 9)
  await redis.kill()
  await Promise.all([listener.down(), publisher.down()])
  await redis.restart()
  await comeBack()
  await until(() => listener.missedBefore.length > 0, 'the loss is reported')
  await publisher.up()
  await publishAll(publisher, 'room', range(10, 15), history)
  await listener.arrived('room', 15)
  t.strictSame(listener.data('room'), range(1, 15))
  t.strictSame(listener.publications('room').slice(-6).map(({ offset }) => offset), range(4, 9))
  t.match(listener.missedBefore, [{ channel: 'room', count: 6, why: /lost the newest/ }])
  const epochs = new Set(listener.publications('room').map(({ epoch }) => epoch))
  t.equal(epochs.size, 2, 'offsets 4 to 9 were given twice, in different epochs')
  const { publications } = await publisher.broker.history('room', { limit: 100 })
  t.strictSame(publications.map(decodePayload), [1, 2, 3, ...range(10, 15)], 'what Redis still has is kept')
})

t.test('a history that is shorter than the gap brings what it has and says how many are lost', async (t) => {
  const { listener, publisher, lockOut, comeBack } = await setUp(t)
  const short = { size: 5, ttl: 60_000 }
  const fleeting = { size: 5, ttl: 50 }
  await listener.subscribe('room', true)
  await listener.subscribe('expired', true)
  await publishAll(publisher, 'room', [1, 2], short)
  await publishAll(publisher, 'expired', [1, 2], fleeting)
  await listener.arrived('room', 2)
  await listener.arrived('expired', 2)
  await lockOut()
  await publishAll(publisher, 'room', range(3, 14), short)
  await publishAll(publisher, 'expired', range(3, 6), fleeting)
  await until(async () => (await publisher.broker.history('expired', { limit: 10 })).publications.length === 0, 'the history has expired')
  await comeBack()
  await listener.arrived('room', 7)
  await until(() => listener.missedIn('expired') > 0, 'the loss is reported')
  await publishAll(publisher, 'expired', [7], fleeting)
  await listener.arrived('expired', 3)
  t.strictSame(listener.data('room'), [1, 2, ...range(10, 14)])
  t.equal(listener.missedIn('room'), 7)
  t.strictSame(listener.data('expired'), [1, 2, 7])
  t.equal(listener.missedIn('expired'), 4)
})

t.test('a gap of thousands is repaired, also with foreign entries in the stream', async (t) => {
  const { redis, keys, listener, publisher, lockOut, comeBack } = await setUp(t)
  const deep = { size: 10_000, ttl: 60_000 }
  const gaps = { exact: 1_000, double: 2_000, odd: 2_345, foreign: 1_500 }
  for (const channel of Object.keys(gaps)) {
    await listener.subscribe(channel, true)
    await publisher.publish(channel, 0, { history: deep })
    await listener.arrived(channel, 1)
  }
  await lockOut()
  for (const [channel, gap] of Object.entries(gaps)) {
    for (const [from, to] of [[1, 500], [501, gap]] as const) {
      await Promise.all(range(from, to).map(i => publisher.publish(channel, i, { history: deep })))
      if (channel === 'foreign') await command(redis.port, ['XADD', keys.stream(channel), `${to + 1}-1`, 'd', 'foreign'])
    }
  }
  await comeBack()
  for (const [channel, gap] of Object.entries(gaps)) {
    await listener.arrived(channel, gap + 1)
    t.strictSame(listener.data(channel), range(0, gap))
  }
  t.strictSame(listener.missedBefore, [])
})

t.test('what clients missed while their instance was cut off comes at their pace, and is too much only for one that does not read', async (t) => {
  const redis = await startRedis(t)
  const prefix = randomPrefix()
  const acl = (...rules: string[]) => command(redis.port, ['ACL', 'SETUSER', 'instance', ...rules])
  await acl('on', '>secret', '~*', '&*', '+@all')
  const { app, url } = await startApp(t, {
    redis: `redis://instance:secret@127.0.0.1:${redis.port}`,
    keyPrefix: prefix,
    channels: { '': { history: { size: 1_000, ttl: '1m' } } },
    async onConnect (connection) {
      await connection.subscribe('room')
      connection.send('ready')
    }
  })
  const [reader, silent] = [await connect(t, `${url}/ws`), await connect(t, `${url}/ws`)]
  for (const client of [reader, silent]) t.equal(await client.next(), 'ready')
  silent.socket.pause()
  const publisher = await startNode(t, redis.url, prefix)
  const count = 200
  const text = (i: number) => `${i} ${'x'.repeat(100_000)}`
  const deep = { size: 1_000, ttl: 60_000 }
  await acl('off')
  await command(redis.port, ['CLIENT', 'KILL', 'USER', 'instance'])
  await Promise.all(range(1, count).map(i => publisher.publish('room', text(i), { history: deep })))
  await acl('on')
  for (const i of range(1, count)) t.ok(await reader.next(30_000) === text(i), `publication ${i}`)
  t.equal(reader.socket.readyState, reader.socket.OPEN)
  t.strictSame(Array.from(app.realtime.connections, ({ open }) => open), [true, false], 'the other one is dropped')
})

t.test('a frozen Redis fails publishes in time, and when it thaws nothing is missing', async (t) => {
  const { redis, listener, publisher } = await setUp(t)
  await listener.subscribe('room', true)
  await publishAll(publisher, 'room', [1, 2], history)
  await listener.arrived('room', 2)

  redis.freeze()
  const failures = await Promise.allSettled([
    publisher.publish('room', 'frozen', { history }), publisher.publish('room', 'frozen', { history: false, idempotencyKey: 'key' }),
    publisher.publish('plain', 'frozen'),
    publisher.subscribe('other', true), publisher.subscribe('plain', false), publisher.broker.history('room', { limit: 1 })
  ])
  for (const failure of failures) t.match(failure, { status: 'rejected', reason: { code: /^FST_CRWS_REDIS_(NO_ANSWER|UNAVAILABLE)$/ } })
  await Promise.all([listener.down(), publisher.down()])
  t.equal(await ping(redis.port, 50), false, 'while it was still frozen')
  await t.rejects(publisher.publish('room', 'frozen', { history }), UNAVAILABLE)
  await t.rejects(listener.subscribe('other', true), UNAVAILABLE)

  redis.thaw()
  await publisher.up()
  await publishAll(publisher, 'room', [3, 4, 5], history)
  await until(() => listener.data('room').at(-1) === 5, 'the last one arrives', 30_000)
  // One was on its way when Redis froze; its publisher was told that it is open what happens to it.
  t.strictSame(listener.data('room').filter(data => data !== 'frozen'), range(1, 5))
  t.ok(listener.data('room').filter(data => data === 'frozen').length <= 2)
  t.strictSame(listener.missedBefore.filter(({ channel }) => channel === 'room'), [])
})

t.test('a frozen Redis is noticed also while there is always something to send', async (t) => {
  const redis = await startRedis(t)
  const node = await startNode(t, redis.url, randomPrefix())
  await node.subscribe('room', true)
  redis.freeze()
  const outcomes: Array<Promise<string>> = []
  const tell = (outcome: Promise<unknown>) => outcomes.push(outcome.then(() => 'done', error => error.code))
  await until(async () => {
    // Every write begins node-redis' own timeout anew.
    tell(node.publish('room', 'frozen', { history }))
    tell(node.subscribe(`room-${outcomes.length}`, false))
    await wait(100)
    return !node.broker.up
  }, 'the broker is down', 30_000)
  t.match(node.states.at(-1), { up: false, reason: 'Redis does not answer' })
  await t.rejects(node.publish('room', 'frozen', { history }), UNAVAILABLE)
  await t.rejects(node.subscribe('other', true), UNAVAILABLE)
  t.equal(await ping(redis.port, 50), false, 'it is still frozen')
  t.notOk((await Promise.all(outcomes)).includes('done'))
  redis.thaw()
  await node.up()
  await node.publish('room', 'after', { history })
  await until(() => node.data('room').at(-1) === 'after', 'the last one arrives', 30_000)
  t.strictSame(node.missedBefore, [])
})

t.test('what is published while Redis is away is rejected and never appears', async (t) => {
  const { redis, listener, publisher, comeBack } = await setUp(t, { persist: true })
  await listener.subscribe('room', true)
  await listener.subscribe('plain', false)
  await publisher.publish('room', 'before', { history })
  await publisher.publish('plain', 'before')
  await listener.arrived('room', 1)
  await listener.arrived('plain', 1)
  await redis.kill()
  await Promise.all([listener.down(), publisher.down()])
  for (let i = 0; i < 20; i++) {
    await t.rejects(publisher.publish('room', 'away', { history }), UNAVAILABLE)
    await t.rejects(publisher.publish('room', 'away', { history, idempotencyKey: 'key' }), UNAVAILABLE)
    await t.rejects(publisher.publish('plain', 'away'), UNAVAILABLE)
    await t.rejects(publisher.publish('plain', 'away', { idempotencyKey: 'key' }), UNAVAILABLE)
  }
  const { presence, sessions } = publisher.backend
  await t.rejects(publisher.broker.history('room', { limit: 1 }), UNAVAILABLE)
  await t.rejects(presence.add('room', [{ client: '1', user: '' }]), UNAVAILABLE)
  await t.rejects(presence.list('room'), UNAVAILABLE)
  await t.rejects(sessions.get('ada'), UNAVAILABLE)
  await redis.restart()
  await publisher.up()
  await comeBack()
  t.match(await publisher.publish('room', 'after', { history, idempotencyKey: 'key' }), { offset: 2 })
  await publisher.publish('plain', 'after')
  await listener.arrived('room', 2)
  await listener.arrived('plain', 2)
  t.strictSame(listener.data('room'), ['before', 'after'])
  t.strictSame(listener.data('plain'), ['before', 'after'])
  t.strictSame((await publisher.broker.history('room', { limit: 10 })).publications.map(decodePayload), ['before', 'after'])
  t.strictSame(listener.missedBefore, [], 'what was refused is not counted as missed')
})

t.test('what could not be published leaves no hole in what is counted', async (t) => {
  const { listener: publisher, publisher: receiver, lockOut, comeBack } = await setUp(t)
  await receiver.subscribe('plain', false)
  const join = { kind: 'join', payload: Buffer.from('{}'), time: Date.now(), instance: publisher.id, sequence: 0, offset: 0, epoch: '' } as const
  await lockOut()
  await t.rejects(publisher.publish('plain', 'lost'), UNAVAILABLE)
  await t.rejects(publisher.broker.publish('plain', join, { history: undefined }), UNAVAILABLE)
  await comeBack()
  await publishAll(publisher, 'plain', [1, 2])
  await receiver.arrived('plain', 2)
  t.strictSame(receiver.publications('plain').map(({ sequence }) => sequence), [1, 2])
})

t.test('without Redis at the start it starts all the same, and works when Redis comes', async (t) => {
  const redis = await startRedis(t)
  await redis.kill()
  const node = await startNode(t, redis.url, randomPrefix())
  t.equal(node.broker.up, false)
  t.match(node.states, [{ up: false, reason: /ECONNREFUSED/ }])
  await t.rejects(node.publish('room', 1, { history }), { code: 'FST_CRWS_REDIS_UNAVAILABLE', cause: { message: /ECONNREFUSED/ } })
  await t.rejects(node.subscribe('room', true), UNAVAILABLE)
  await redis.restart()
  await node.up()
  t.match(node.states, [{ up: false }, { up: true, reason: '' }])
  await node.subscribe('room', true)
  await node.publish('room', 1, { history })
  await node.arrived('room', 1)
  t.strictSame(node.data('room'), [1])
})

t.test('a Redis that is frozen at the start holds nobody up', async (t) => {
  const redis = await startRedis(t)
  redis.freeze()
  const node = await startNode(t, redis.url, randomPrefix())
  t.match(node.states, [{ up: false }])
  await t.rejects(node.publish('room', 1), UNAVAILABLE)
  redis.thaw()
  await node.up()
  await node.publish('room', 1)
})

t.test('closing ends in time with a frozen Redis, an absent one and at once after the start', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [await startNode(t, redis.url, randomPrefix()), await startNode(t, redis.url, randomPrefix())]
  await a.subscribe('room', true)
  redis.freeze()
  const publishing = t.rejects(a.publish('room', 1, { history }), { code: /^FST_CRWS_REDIS_/ })
  await a.broker.close()
  t.equal(await ping(redis.port, 50), false, 'it is still frozen')
  await publishing
  t.strictSame(a.states, [{ up: true, reason: '' }], 'that the links end now is no news')
  await redis.kill()
  await b.down()
  await b.broker.close()
  const early = (await startNode(t, redis.url, randomPrefix())).broker
  await early.close()
  t.equal(early.up, false)
})

t.test('a channel that is left while Redis is away stays left, and can be entered again', async (t) => {
  const { prefix, keys, redis, listener, publisher, lockOut, comeBack } = await setUp(t)
  for (const channel of ['left', 'back', 'stays']) await listener.subscribe(channel, true)
  await lockOut()
  listener.broker.unsubscribe('left')
  listener.broker.unsubscribe('back')
  await comeBack()
  await listener.subscribe('back', true)
  for (const channel of ['left', 'back', 'stays']) await publishAll(publisher, channel, [1, 2], history)
  await listener.arrived('back', 2)
  await listener.arrived('stays', 2)
  t.strictSame(listener.data('left'), [])
  t.strictSame(listener.data('back'), [1, 2])
  t.strictSame(listener.data('stays'), [1, 2])
  await until(async () => await command(redis.port, ['PUBSUB', 'NUMSUB', keys.pubsub('left')]) === `${prefix}:pub:{left},0`, 'its subscription is gone')
})

t.test('an unsubscribe that a crashed Redis never processed is repeated when the next message arrives', async (t) => {
  const redis = await startRedis(t)
  const prefix = randomPrefix()
  const pubsub = new RedisKeys(prefix).pubsub('left')
  const node = await startNode(t, redis.url, prefix)
  const subscribers = async () => Number((await command(redis.port, ['PUBSUB', 'NUMSUB', pubsub])).split(',')[1])
  for (const channel of ['left', 'stays']) await node.subscribe(channel, false)
  redis.freeze()
  node.broker.unsubscribe('left')
  await setImmediate() // node-redis writes what was sent in the last turn
  await setImmediate()
  await redis.restart()
  await until(() => node.states.filter(({ up }) => up).length === 2, 'it is back', 60_000)
  t.equal(await subscribers(), 1, 'node-redis has subscribed it again')
  await publishAll(node, 'left', [1])
  await until(async () => await subscribers() === 0, 'it is unsubscribed')
  await publishAll(node, 'stays', [1])
  await node.arrived('stays', 1)
  t.strictSame(node.data('left'), [])
})

t.test('a repair that fails is tried again', async (t) => {
  const { acl, listener, publisher, lockOut } = await setUp(t)
  await listener.subscribe('room', true)
  await publishAll(publisher, 'room', [1], history)
  await listener.arrived('room', 1)
  await lockOut()
  await publishAll(publisher, 'room', [2, 3], history)
  await acl('on', '-evalsha', '-eval')
  await listener.up()
  await publishAll(publisher, 'room', [4], history)
  await t.rejects(listener.broker.history('room', { limit: 1 }), { code: 'FST_CRWS_REDIS_REFUSED', cause: { message: /NOPERM/ } })
  t.strictSame(listener.data('room'), [1], 'nothing newer comes before what is missing')
  await acl('+evalsha', '+eval')
  await listener.arrived('room', 4)
  t.strictSame(listener.data('room'), range(1, 4))
  t.strictSame(listener.missedBefore, [])
})

t.test('a repair from before the subscription was back is not the last', async (t) => {
  const { acl, redis, listener, publisher } = await setUp(t)
  const scripts = async (what: string) => Number(new RegExp(`cmdstat_evalsha:.*\\b${what}=(\\d+)`).exec(await command(redis.port, ['INFO', 'commandstats']))?.[1] ?? 0)
  const cut = () => command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub'])
  await listener.subscribe('room', true)
  await publishAll(publisher, 'room', [1], history)
  await listener.arrived('room', 1)
  await acl('-evalsha', '-eval')
  await cut()
  await until(async () => await scripts('rejected_calls') > 0, 'a repair has failed', 30_000)
  await acl('-subscribe')
  await cut()
  await listener.down()
  const before = await scripts('calls')
  await acl('+evalsha', '+eval')
  await until(async () => await scripts('calls') > before, 'the next one works', 30_000)
  await publishAll(publisher, 'room', [2, 3], history)
  await acl('+subscribe')
  await listener.arrived('room', 3)
  t.strictSame(listener.data('room'), [1, 2, 3])
  t.strictSame(listener.missedBefore, [])
})

t.test('a subscribe that Redis refuses leaves nothing behind', async (t) => {
  const { acl, keys, redis, listener, publisher } = await setUp(t)
  await acl('resetchannels')
  // Taking a permission away cuts those who use it; ours do not yet.
  await t.rejects(listener.subscribe('room', true), { code: /^FST_CRWS_REDIS_/ })
  await acl('&*')
  await listener.up()
  await publishAll(publisher, 'room', [1], history)
  t.equal(await command(redis.port, ['PUBSUB', 'NUMSUB', keys.pubsub('room')]), `${keys.pubsub('room')},0`)
  await acl('-evalsha', '-eval')
  await t.rejects(listener.subscribe('room', true), { code: 'FST_CRWS_REDIS_REFUSED' })
  await until(async () => await command(redis.port, ['PUBSUB', 'NUMSUB', keys.pubsub('room')]) === `${keys.pubsub('room')},0`, 'it is not subscribed')
  await acl('+evalsha', '+eval')
  await listener.subscribe('room', true)
  await publishAll(publisher, 'room', [2], history)
  await listener.arrived('room', 1)
  t.strictSame(listener.data('room'), [2])
})

t.test('an error that leaves the link as it is does not count as a loss of it', async (t) => {
  const { redis, acl, listener, publisher } = await setUp(t)
  await listener.subscribe('room', true)
  const refusals = async () => Number(/errorstat_NOPERM:count=(\d+)/.exec(await command(redis.port, ['INFO', 'errorstats']))?.[1] ?? 0)
  await acl('-ping') // both links ping once a second
  await until(async () => await refusals() >= 4, 'pings were refused')
  await publishAll(publisher, 'room', [1], history)
  await listener.arrived('room', 1)
  t.strictSame(listener.states.map(({ up }) => up), [true])
})
