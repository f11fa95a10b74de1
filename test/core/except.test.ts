import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import type { App } from '../helpers/app.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../helpers/sdk.ts'
import type { SdkSubscription } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const channels = {
  room: { subscribe: true, publish: true },
  kept: { subscribe: true, publish: true, history: { size: 100, ttl: '10m' } }
} as const

const places = [['in memory', 1, undefined], ['across two instances', 2, redis]] as const

/** Runs on one instance in memory, and on two with Redis. */
function everywhere (name: string, options: Options, run: (t: Test, one: App, two: App) => Promise<void>): void {
  for (const [where, n, store] of places) {
    t.test(`${where}: ${name}`, async (t) => {
      const instances = await startInstances(t, n, { channels, ...options }, store)
      await run(t, instances[0]!, instances[n - 1]!)
    })
  }
}

function connectionOf ({ app }: App, id: string): Connection {
  return [...app.realtime.connections].find(connection => connection.id === id)!
}

async function has (client: Client, last: string): Promise<unknown[]> {
  await until(() => client.messages.includes(last), `the message ${last}`)
  return client.messages
}

/** Plain clients say their id first. */
const greeting: Options = { onConnect: async connection => {
  await Promise.all([connection.subscribe('room:1'), connection.subscribe('kept:1')])
  connection.send(connection.id)
} }

for (const channel of ['room:1', 'kept:1']) {
  everywhere(`everybody in ${channel} gets a publication but the connection that is named, by itself or by its id`, greeting, async (t, one, two) => {
    const clients = await Promise.all([one, one, two, two].map(({ url }) => connect(t, `${url}/ws`)))
    const ids = await Promise.all(clients.map(async client => String(await client.next())))
    await one.app.realtime.publish(channel, 'a', { except: connectionOf(one, ids[0]!) })
    await one.app.realtime.publish(channel, 'b', { except: ids[3]! })
    await two.app.realtime.broadcast([channel], 'c', { except: ids[1]! })
    await two.app.realtime.publish(channel, 'd', { except: 'nobody', tags: { a: 'b' }, idempotencyKey: 'once' })
    await two.app.realtime.publish(channel, 'last', { except: undefined })
    const got = await Promise.all(clients.map(async client => (await has(client, 'last')).slice(1)))
    t.strictSame(got, [['b', 'c', 'd', 'last'], ['a', 'b', 'd', 'last'], ['a', 'b', 'c', 'd', 'last'], ['a', 'c', 'd', 'last']])
  })
}

everywhere('of publications that leave together the connection gets all that are for it', greeting, async (t, one) => {
  const [out, other] = [await connect(t, `${one.url}/ws`), await connect(t, `${one.url}/ws`)]
  const except = String(await out.next())
  for (const channel of ['room:1', 'kept:1']) {
    const names = ['a', 'b', 'c', 'd', 'e', `last in ${channel}`]
    await Promise.all(names.map(name => one.app.realtime.publish(channel, name, 'bde'.includes(name) ? { except } : {})))
    t.strictSame((await has(other, names[5]!)).slice(-6), names)
    t.strictSame((await has(out, names[5]!)).slice(-3), ['a', 'c', names[5]])
  }
  t.equal(out.messages.length, 7)
})

t.test('what names no connection is refused', async (t) => {
  const { app: { realtime } } = await startApp(t, { redis: false })
  for (const except of ['', 5, null, {}, { id: '' }, { id: 5 }, []]) {
    const refused = { code: 'FST_CRWS_INVALID_ARGUMENT', message: /Invalid except: got .*, expected a connection or its id/ }
    await t.rejects(realtime.publish('room:1', 'x', { except: except as never }), refused, JSON.stringify(except))
    await t.rejects(realtime.broadcast(['room:1'], 'x', { except: except as never }), refused)
  }
})

for (const encoding of encodings) {
  everywhere(`${encoding}: a client that publishes does not get its own message back, by what onPublish returns`, { onPublish: connection => ({ except: connection }) }, async (t, one, two) => {
    const [ann, bob] = [await sdkClient(t, one.url, encoding).connected(), await sdkClient(t, two.url, encoding).connected()]
    for (const channel of ['room:1', 'kept:1']) {
      const [a, b] = await Promise.all([ann, bob].map(client => client.subscribe(channel).subscribed())) as [SdkSubscription, SdkSubscription]
      for (const i of [1, 2]) await ann.publish(channel, `ann ${i}`)
      for (const i of [1, 2]) await bob.publish(channel, `bob ${i}`)
      await Promise.all([a.arrived(2), b.arrived(2)])
      await one.app.realtime.publish(channel, 'last')
      await Promise.all([a.arrived(3), b.arrived(3)])
      t.strictSame(a.data, ['bob 1', 'bob 2', 'last'])
      t.strictSame(b.data, ['ann 1', 'ann 2', 'last'])
    }
  })

  everywhere(`${encoding}: an SDK stays subscribed, and recovers what it did not get when it comes back`, {}, async (t, one, two) => {
    const balancer = await startBalancer(t, [one.url, two.url])
    const client = await sdkClient(t, balancer.url, encoding).connected()
    const room = await client.subscribe('kept:1').subscribed()
    const publish = (data: string, except?: string) => two.app.realtime.publish('kept:1', data, { except })
    await publish('1')
    await publish('2', client.id)
    await publish('3')
    await publish('4', client.id)
    await publish('5', client.id)
    await room.arrived(2)
    t.strictSame([room.data, room.offsets], [['1', '3'], [1, 3]])

    // It was at 3: 4 and 5 were left out for the connection that is gone.
    balancer.cut()
    await room.subscribed(2)
    t.match(room.events.subscribed[1], { wasRecovering: true, recovered: true })
    await publish('6')
    await room.arrived(5)
    t.strictSame(room.data, ['1', '3', '4', '5', '6'])

    await publish('7', client.id)
    await publish('8')
    await room.arrived(6)
    balancer.cut()
    await room.subscribed(3)
    await publish('9')
    await room.arrived(7)
    t.strictSame(room.data.slice(4), ['6', '8', '9'], 'nothing that was left out before its position')
    t.match(room.events.subscribed[2], { wasRecovering: true, recovered: true })
    t.strictSame(room.events.unsubscribed, [])
    t.equal(client.events.connected.length, 3)
  })

  everywhere(`${encoding}: on the same connection it is not recovered either`, {}, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const room = await client.subscribe('kept:1').subscribed()
    room.sub.unsubscribe()
    for (const i of [1, 2, 3, 4]) await two.app.realtime.publish('kept:1', i, { except: i % 2 === 0 ? client.id : undefined })
    room.sub.subscribe()
    await room.subscribed(2)
    await two.app.realtime.publish('kept:1', 5)
    await room.arrived(3)
    t.strictSame([room.data, room.offsets], [[1, 3, 5], [1, 3, 5]])
    t.match(room.events.subscribed[1], { wasRecovering: true, recovered: true })
  })

  everywhere(`${encoding}: a subscription by the server leaves it out, too`, { authenticate: () => ({ user: 'ann', channels: ['kept:1'] }) }, async (t, one, two) => {
    const [client, other] = [await sdkClient(t, one.url, encoding).connected(), await sdkClient(t, one.url, encoding).connected()]
    await two.app.realtime.publish('kept:1', 'a', { except: client.id })
    await two.app.realtime.publish('kept:1', 'b')
    await until(() => [client, other].every(one => one.data('kept:1').includes('b')), 'b has come')
    t.strictSame([client.data('kept:1'), other.data('kept:1')], [['b'], ['a', 'b']])
  })
}

t.test('what Redis kept from an instance is left out, too, when it is repaired', async (t) => {
  const link = await startBalancer(t, [redis.url])
  const options = { keyPrefix: randomPrefix(), channels, ...greeting }
  const one = await startApp(t, { ...options, redis: redis.url })
  const two = await startApp(t, { ...options, redis: link.url.replace('ws:', 'redis:') })
  const [out, other] = [await connect(t, `${two.url}/ws`), await connect(t, `${two.url}/ws`)]
  const [except] = [String(await out.next()), await other.next()]
  const isUp = async () => (await two.app.inject('/ready')).json().redis === 'up'
  link.targets = []
  link.cut()
  await until(async () => !await isUp(), 'it has no Redis')
  for (const data of ['a', 'b']) await one.app.realtime.publish('kept:1', data, { except })
  link.targets = [redis.url]
  await until(isUp, 'it has Redis again', 30_000)
  await one.app.realtime.publish('kept:1', 'last')
  t.strictSame((await has(out, 'last')).slice(1), ['last'])
  t.strictSame((await has(other, 'last')).slice(1), ['a', 'b', 'last'])
})

t.test('the history and its readers have it', async (t) => {
  const { app, url } = await startApp(t, { redis: false, channels })
  const client = await sdkClient(t, url, 'json').connected()
  const room = await client.subscribe('kept:1').subscribed()
  await app.realtime.publish('kept:1', 'a', { except: client.id })
  t.match((await app.realtime.history('kept:1')).publications, [{ data: 'a', offset: 1 }])
  t.strictSame(Object.keys((await app.realtime.history('kept:1')).publications[0]!), ['data', 'offset', 'epoch', 'time'])
  t.match((await room.sub.history({ limit: 10 })).publications, [{ data: 'a', offset: 1 }])
})
