import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../../index.ts'
import type { App } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { connectionsOf, MUCH } from '../../helpers/connections.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import { nameOf, wireClient, wires } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const channels = {
  price: { subscribe: true, history: { size: 10, ttl: '10m', recover: 'cache' }, slow: 'latest' }
} as const

/** Runs on one instance in memory, and on two with Redis. What is published comes from the other one. */
function everywhere (name: string, options: Options, run: (t: Test, one: App, two: App) => Promise<void>): void {
  for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
    t.test(`${where}: ${name}`, async (t) => {
      const instances = await startInstances(t, n, { channels, ...options }, store)
      await run(t, instances[0]!, instances[n - 1]!)
    })
  }
}

async function publish ({ app }: App, ...values: unknown[]): Promise<void> {
  for (const value of values) await app.realtime.publish('price:x', value)
}

for (const wire of wires) {
  everywhere(`${nameOf(wire)}: a client that comes back gets the newest value alone, or nothing if it has that`, { fallback: true }, async (t, one, two) => {
    const balancer = await startBalancer(t, [one.url, two.url])
    const client = await wireClient(t, balancer.url, wire).connected()
    await publish(two, 1)
    const price = await client.subscribe('price:x').arrived(1)
    balancer.cut()
    await price.subscribed(2)
    t.match(price.events.subscribed[1], { wasRecovering: true, recovered: true })
    price.sub.unsubscribe()
    await publish(two, 2, 3, 4)
    price.sub.subscribe()
    await price.subscribed(3)
    t.match(price.events.subscribed[2], { wasRecovering: true, recovered: true })
    await publish(two, 5)
    await price.arrived(3)
    t.strictSame(price.data, [1, 4, 5])
    t.strictSame(price.events.error, [])
  })
}

for (const encoding of encodings) {
  everywhere(`${encoding}: a client gets the last value on subscribing, without any option, then what is published`, {}, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const early = await client.subscribe('price:y').subscribed()
    t.match(early.events.subscribed[0], { wasRecovering: false, recovered: false, recoverable: true, positioned: true })
    await publish(two, 1, 2, 3)
    const price = await client.subscribe('price:x').subscribed()
    await price.arrived(1)
    t.strictSame([price.data, price.offsets], [[3], [3]])
    t.match(price.events.subscribed[0], { wasRecovering: false, recovered: true, recoverable: true, positioned: true })
    t.equal(price.log[0], price.events.subscribed[0], 'it comes after the event subscribed')
    await publish(two, 4, 5)
    await price.arrived(3)
    t.strictSame([price.data, price.offsets], [[3, 4, 5], [3, 4, 5]])
  })

  everywhere(`${encoding}: as with Centrifugo, since without a position asks for it, too`, {}, async (t, one, two) => {
    await publish(two, 1, 2)
    const client = await sdkClient(t, one.url, encoding).connected()
    for (const since of [{}, { offset: 0, epoch: '' }, { epoch: 'of another history', offset: 7 }]) {
      const price = await client.subscribe('price:x', { since }).arrived(1)
      t.match(price.events.subscribed[0], { wasRecovering: true, recovered: true, hasRecoveredPublications: true }, JSON.stringify(since))
      t.strictSame([price.data, price.offsets], [[2], [2]])
      price.sub.unsubscribe()
      client.client.removeSubscription(price.sub)
    }
    const none = await client.subscribe('price:none', { since: {} }).subscribed()
    t.match(none.events.subscribed[0], { wasRecovering: true, recovered: false })
    await two.app.realtime.publish('price:none', 'first')
    await none.arrived(1)
    none.sub.unsubscribe()
    none.sub.subscribe()
    await none.subscribed(2)
    t.match(none.events.subscribed[1], { wasRecovering: true, recovered: true, hasRecoveredPublications: false })
    t.strictSame(none.data, ['first'])
  })

  everywhere(`${encoding}: a client that brings its own state gets a newer value, from whichever position, and never error 112 for one`, {}, async (t, one, two) => {
    await publish(two, 1, 2, 3)
    const { epoch } = await two.app.realtime.history('price:x', { limit: 0 })
    const client = await sdkClient(t, one.url, encoding).connected()
    const states: Array<[state: { offset: number, epoch: string }, expected: unknown[]]> = [
      [{ offset: 3, epoch }, []], [{ offset: 1, epoch }, [3]], [{ offset: 3, epoch: 'of another history' }, [3]]
    ]
    for (const [state, expected] of states) {
      let calls = 0
      const getState = async () => {
        calls++
        return state
      }
      const price = await client.subscribe('price:x', { getState }).subscribed()
      await price.arrived(expected.length)
      t.strictSame([price.data, calls], [expected, 1], JSON.stringify(state))
      t.match(price.events.subscribed[0], { recovered: true })
      price.sub.unsubscribe()
      client.client.removeSubscription(price.sub)
    }
  })

  const serverSide: Options = { authenticate: () => ({ user: 'ann', channels: ['price:x'] }) }
  everywhere(`${encoding}: a subscription by the server brings it, from the start and when the client comes back`, serverSide, async (t, one, two) => {
    await publish(two, 1, 2)
    const balancer = await startBalancer(t, [one.url, two.url])
    const client = await sdkClient(t, balancer.url, encoding).connected()
    await until(() => client.data('price:x').length >= 1, 'the last value')
    t.strictSame(client.data('price:x'), [2])
    balancer.cut()
    await client.connected(2)
    await publish(two, 3)
    await until(() => client.data('price:x').length >= 2, 'the next value')
    t.strictSame(client.data('price:x'), [2, 3])
    client.client.disconnect()
    await publish(two, 4, 5, 6)
    client.client.connect()
    await client.connected(3)
    await publish(two, 7)
    await until(() => client.data('price:x').length >= 4, 'what came after')
    t.strictSame(client.data('price:x'), [2, 3, 6, 7])
  })

  everywhere(`${encoding}: so does connection.subscribe, at any time`, {}, async (t, one, two) => {
    await publish(two, 1, 2)
    const client = await sdkClient(t, one.url, encoding).connected()
    const [connection] = connectionsOf(one.app)
    t.strictSame(await connection!.subscribe('price:x'), {})
    await publish(two, 3)
    await until(() => client.data('price:x').length >= 2, 'both values')
    t.strictSame(client.data('price:x'), [2, 3])
  })

  everywhere(`${encoding}: with a snapshot it comes after the snapshot`, { onSubscribe: () => ({ data: 'snapshot', since: { offset: 1, epoch: '' } }) }, async (t, one, two) => {
    await publish(two, 1, 2, 3)
    const client = await sdkClient(t, one.url, encoding).connected()
    const price = await client.subscribe('price:x').arrived(1)
    t.equal(client.dec(price.events.subscribed[0]!.data), 'snapshot')
    t.strictSame(price.data, [3])
  })

  t.test(`${encoding}: a client that subscribes again and again pays for the values that it reads`, async (t) => {
    const [one] = await startInstances(t, 1, { channels, rateLimit: { connections: false, messages: { max: 50, timeWindow: '1h' } } })
    await publish(one!, 'x'.repeat(100_000))
    const client = await sdkClient(t, one!.url, encoding).connected()
    const price = await client.subscribe('price:x').arrived(1)
    for (let times = 2; times <= 3; times++) {
      price.sub.unsubscribe()
      price.sub.subscribe()
      await price.subscribed(times)
    }
    price.sub.unsubscribe()
    price.sub.subscribe()
    await until(() => price.events.error.length > 0, 'it has read too much')
    t.match(price.events.error[0], { error: { code: 111 } })
  })
}

const subscribing: Options = {
  onConnect: async connection => {
    connection.meta = await connection.subscribe('price:x')
  }
}

everywhere('a plain client gets it as its first message, and no position that it did not ask for', subscribing, async (t, one, two) => {
  await publish(two, 'a', 'b')
  const client = await connect(t, `${one.url}/ws`)
  t.equal(await client.next(), 'b')
  await publish(two, 'c')
  t.equal(await client.next(), 'c')
  const [connection] = Array.from(one.app.realtime.connections) as [Connection]
  t.strictSame(connection.meta, {})
  await connection.unsubscribe('price:x')
  const { offset, epoch } = await one.app.realtime.history('price:x', { limit: 0 })
  t.strictSame(await connection.subscribe('price:x', { since: { offset: 1, epoch } }), { recovered: true, offset, epoch })
  t.equal(await client.next(), 'c')
  await connection.unsubscribe('price:x')
  t.strictSame(await connection.subscribe('price:x', { since: { offset, epoch } }), { recovered: true, offset, epoch })
  connection.send('no other')
  t.equal(await client.next(), 'no other')
})

everywhere('a client that does not read gets the last value on subscribing, and the newest when it reads again', {
  ...subscribing, maxBufferedBytes: 100_000_000, heartbeat: { interval: '1m', timeout: '1m' }
}, async (t, one, two) => {
  await publish(two, 'first', 'last')
  const client = await connect(t, `${one.url}/ws`)
  t.equal(await client.next(), 'last')
  client.socket.pause()
  const [connection] = connectionsOf(one.app)
  connection!.send(MUCH)
  const { sent } = connection!
  await publish(two, 'skipped', 'skipped', 'newest')
  client.socket.resume()
  await until(() => client.messages.includes('newest'), 'the newest value')
  t.notOk(client.messages.includes('skipped'))
  t.ok(connection!.sent <= sent + 1, 'one for all that it skipped')
})

everywhere('also who is left out of live delivery gets the last value when it subscribes: it is a value', {}, async (t, one, two) => {
  const client = await sdkClient(t, one.url, 'json').connected()
  const price = await client.subscribe('price:x').subscribed()
  await two.app.realtime.publish('price:x', 1, { except: client.id })
  await publish(two, 2)
  await price.arrived(1)
  await two.app.realtime.publish('price:x', 3, { except: client.id })
  price.sub.unsubscribe()
  price.sub.subscribe()
  await price.subscribed(2)
  await publish(two, 4)
  await until(() => price.data.includes(4), 'the next')
  t.strictSame(price.data, [2, 3, 4])
})
