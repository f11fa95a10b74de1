import type { Options as SdkOptions } from 'centrifuge'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import type { End, Options } from '../../../index.ts'
import { Subscription } from '../../../lib/hub/subscription.ts'
import { newPublication } from '../../../lib/model/publication.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import type { App } from '../../helpers/app.ts'
import { startApp } from '../../helpers/app.ts'
import { audit, Ledger } from '../../helpers/audit.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding, SdkClient } from '../../helpers/sdk.ts'
import { nameOf, otherOf, wireClient, wires } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

t.jobs = 3
t.setTimeout(300_000)
const redis = await startRedis(t)

/** Some of these wait long; so they run side by side. */
function test (name: string, run: (t: Test) => Promise<void>): void {
  t.test(name, { buffered: true }, run)
}

interface Place {
  encoding: Encoding
  /** A client of this instance. Over a stream it posts to the other one. */
  clientOf: (url: string, options?: Partial<SdkOptions>) => SdkClient
  one: App
  two: App
}

/** The same over each transport in each of its encodings, in memory, and across two instances on Redis. */
function everywhere (name: string, options: Options, run: (t: Test, place: Place) => Promise<void>): void {
  for (const wire of wires) {
    for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
      test(`${nameOf(wire)}, ${where}: ${name}`, async (t) => {
        const instances = await startInstances(t, n, { fallback: true, ...options }, store)
        const [one, two] = [instances[0]!, instances[n - 1]!]
        const clientOf: Place['clientOf'] = (url, options) => wireClient(t, url, wire, options, otherOf(url, one, two))
        await run(t, { encoding: wire.encoding, clientOf, one, two })
      })
    }
  }
}

const channels = {
  room: { subscribe: true, publish: true, joinLeave: true, history: { size: 10_000, ttl: '10m' } },
  short: { subscribe: true, publish: true, joinLeave: true, history: { size: 5, ttl: '10m' } }
} as const

for (const [where, n, store] of [['one instance in memory', 1, undefined], ['two instances on Redis', 2, redis]] as const) {
  // Not beside others: it takes all there is.
  t.test(`clients come and go at random moments while publications flow at full speed, on ${where}: they get each of them once and in order`, async (t) => {
    const instances = await startInstances(t, n, { channels }, store)
    const balancer = await startBalancer(t, instances.map(({ url }) => url))
    const clients = Array.from({ length: 20 }, (_, i) => sdkClient(t, balancer.url, encodings[i % 2]!))
    const subscriptions = clients.map(client => client.subscribe('room:1'))
    await Promise.all(subscriptions.map(subscription => subscription.subscribed()))

    const ledger = new Ledger()
    const flow = { ended: false }
    const coming = clients.map(async ({ client }, i) => {
      const { events } = subscriptions[i]!
      let before = 0
      while (!flow.ended) {
        // Mostly some time after it was subscribed again, and now and then at any point of its way there.
        if (Math.random() < 0.8) await until(() => flow.ended || events.subscribed.length > before, 'it is back', 60_000)
        before = events.subscribed.length
        await wait(Math.random() * 100)
        if (i % 4 === 0) {
          client.disconnect()
          client.connect()
        } else {
          (client as unknown as { _transport: { close (): void } | null })._transport?.close()
        }
      }
    })
    const recoveries = () => subscriptions.reduce((sum, { events }) => {
      return sum + events.subscribed.filter(({ wasRecovering }) => wasRecovering).length
    }, 0)
    while (ledger.top < 3_000 || (recoveries() < 100 && ledger.top < 6_000)) {
      await Promise.all(Array.from({ length: 10 }, (_, i) => ledger.publish(id => instances[i % n]!.app.realtime.publish('room:1', id))))
      await wait(1) // in memory a publish waits for nothing
    }
    flow.ended = true
    await Promise.all(coming)

    const { recovered, ...result } = await audit(subscriptions, ledger)
    t.comment(`${ledger.top} publications, ${recovered} recoveries`)
    t.strictSame(result, { lost: 0, twice: 0, disordered: 0, wrong: 0, lies: 0, unrecovered: 0 })
    t.ok(recovered >= 20, `${recovered} times recovered`)
  })
}

everywhere('a client that comes back gets what it missed, if all of it is still there', { channels }, async (t, { clientOf, one, two }) => {
  const balancer = await startBalancer(t, [one.url])
  const client = clientOf(balancer.url)
  const kept = await client.subscribe('short:1').subscribed()
  const gone = await client.subscribe('short:2').subscribed()
  const none = await client.subscribe('room:1').subscribed()
  for (const channel of ['short:1', 'short:2']) await two.app.realtime.publish(channel, 1)
  await Promise.all([kept.arrived(1), gone.arrived(1)])

  balancer.targets = []
  balancer.cut()
  await until(() => client.client.state === 'connecting', 'it is away')
  for (let i = 2; i <= 6; i++) await one.app.realtime.publish('short:1', i)
  for (let i = 2; i <= 7; i++) await one.app.realtime.publish('short:2', i)
  balancer.targets = [two.url]
  await Promise.all([kept, gone, none].map(subscription => subscription.subscribed(2)))
  await kept.arrived(6)
  for (const channel of ['short:1', 'short:2', 'room:1']) await one.app.realtime.publish(channel, 'live')
  await Promise.all([kept.arrived(7), gone.arrived(2), none.arrived(1)])

  t.match(kept.events.subscribed[1], {
    wasRecovering: true,
    recovered: true,
    hasRecoveredPublications: true,
    streamPosition: { offset: 1 }
  })
  t.strictSame(kept.data, [1, 2, 3, 4, 5, 6, 'live'])
  t.strictSame(kept.offsets, [1, 2, 3, 4, 5, 6, 7])
  t.match(gone.events.subscribed[1], {
    wasRecovering: true,
    recovered: false,
    hasRecoveredPublications: false,
    streamPosition: { offset: 7 }
  })
  t.strictSame(gone.data, [1, 'live'])
  t.match(none.events.subscribed[1], { wasRecovering: true, recovered: true, hasRecoveredPublications: false })
  t.strictSame(none.data, ['live'])
})

everywhere('a client may name its position at the first subscribe', { channels }, async (t, { clientOf, one, two }) => {
  const client = await clientOf(one.url).connected()
  for (let i = 1; i <= 3; i++) await two.app.realtime.publish('room:1', i)
  const { epoch } = await two.app.realtime.history('room:1', { limit: 0 })
  const positions: Array<[{ offset: number, epoch: string }, boolean, number[]]> = [
    [{ offset: 1, epoch }, true, [2, 3]], [{ offset: 1, epoch: '' }, true, [2, 3]], [{ offset: 3, epoch }, true, []],
    [{ offset: 4, epoch }, false, []], [{ offset: 1, epoch: 'another' }, false, []]
  ]
  for (const [since, recovered, data] of positions) {
    const subscription = await client.subscribe('room:1', { since }).subscribed()
    t.match(subscription.events.subscribed, [{ wasRecovering: true, recovered, streamPosition: { epoch } }], JSON.stringify(since))
    await subscription.arrived(data.length)
    t.strictSame(subscription.data, data)
    subscription.sub.unsubscribe()
    client.client.removeSubscription(subscription.sub)
  }
})

everywhere('a client that would rather load anew than have a hole is told so, and nobody else hears of it', { channels }, async (t, { clientOf, one, two }) => {
  const watching = await clientOf(two.url).subscribe('short:1').subscribed()
  await until(() => watching.events.join.length === 1, 'its own join')
  for (let i = 1; i <= 8; i++) await two.app.realtime.publish('short:1', i)
  const { epoch } = await two.app.realtime.history('short:1', { limit: 0 })
  const client = await clientOf(one.url).connected()
  const states = [{ offset: 1, epoch }, { offset: 8, epoch: 'another' }, { offset: 6, epoch }]
  let calls = 0
  const subscription = await client.subscribe('short:1', { getState: async () => states[calls++]! }).subscribed()
  await subscription.arrived(2)
  t.equal(calls, 3)
  t.match(subscription.events.subscribed, [{ recovered: true }])
  t.strictSame(subscription.data, [7, 8])
  subscription.sub.unsubscribe()
  subscription.sub.subscribe()
  await until(() => watching.events.join.length === 3, 'it has left and joined again')
  t.strictSame(watching.events.join.map(({ info }) => info.client).slice(1), [client.id, client.id])
  t.strictSame(watching.events.leave.map(({ info }) => info.client), [client.id])
})

everywhere('more than half of what a client may owe is not recovered, or it would be dropped for it again and again', {
  channels: { big: { subscribe: true, history: { size: 2_000, ttl: '10m' } } }, maxBufferedBytes: 100_000
}, async (t, { clientOf, one, two }) => {
  const client = await clientOf(one.url).connected()
  const publish = (channel: string, count: number, data: unknown, tags = {}) => {
    return two.app.realtime.broadcast(Array.from({ length: count }, () => channel), data, { tags })
  }
  for (const channel of ['big:data', 'big:tags', 'big:many']) await publish(channel, 1, 'first')
  const size = one === two ? 60_000 : 1_000 // once more than the kernel takes from us in one go
  for (let i = 0; i < 10; i++) await publish('big:data', 10, 'x'.repeat(size))
  await publish('big:tags', 100, 1, { tag: 'x'.repeat(1_000) })
  for (let i = 0; i < 19; i++) await publish('big:many', 100, 1)
  for (const channel of ['big:data', 'big:tags', 'big:many']) {
    const { epoch, offset } = await two.app.realtime.history(channel, { limit: 0 })
    const subscription = await client.subscribe(channel, { since: { offset: 1, epoch } }).subscribed()
    t.match(subscription.events.subscribed, [{ wasRecovering: true, recovered: false, streamPosition: { offset } }], channel)
    await publish(channel, 1, 'live')
    t.strictSame((await subscription.arrived(1)).data, ['live'])
    client.client.removeSubscription(subscription.sub)
    const some = await client.subscribe(channel, { since: { offset, epoch } }).subscribed()
    t.match(some.events.subscribed, [{ wasRecovering: true, recovered: true }], channel)
  }
  t.equal(client.events.connected.length, 1, 'it was never dropped')
})

everywhere('nor in all server-side channels together: what is too much begins at the top', {
  channels: { own: { history: { size: 100, ttl: '10m' } } },
  maxBufferedBytes: 100_000,
  onConnect: async (connection) => {
    for (const n of [1, 2, 3]) await connection.subscribe(`own:${n}`)
  }
}, async (t, { clientOf, one, two }) => {
  const balancer = await startBalancer(t, [one.url])
  const { client, events } = await clientOf(balancer.url).connected()
  const subscribed: Record<string, boolean> = {}
  client.on('subscribed', ({ channel, recovered }) => { subscribed[channel] = recovered })
  balancer.targets = []
  balancer.cut()
  await until(() => client.state === 'connecting', 'it is away')
  for (const n of [1, 2, 3]) await two.app.realtime.publish(`own:${n}`, 'x'.repeat(20_000))
  balancer.targets = [one.url]
  await until(() => Object.keys(subscribed).length === 3, 'it is back')
  t.strictSame(Object.values(subscribed).filter(recovered => recovered).length, 2, 'as much as may be recovered')
  t.equal(events.connected.length, 2)
})

everywhere('a host may name the position at which a client begins', { channels }, async (t, { encoding, clientOf, one, two }) => {
  const client = await clientOf(one.url).connected()
  for (let i = 1; i <= 3; i++) await two.app.realtime.publish('room:7', i)
  const { epoch } = await two.app.realtime.history('room:7', { limit: 0 })
  const data: unknown[] = []
  client.client.on('publication', publication => { data.push(encoding === 'json' ? publication.data : JSON.parse(Buffer.from(publication.data).toString())) })
  const [connection] = one.app.realtime.connections
  t.strictSame(await connection!.subscribe('room:7', { since: { offset: 1, epoch } }), { recovered: true, offset: 3, epoch })
  await until(() => data.length === 2, 'what it missed')
  t.strictSame(data, [2, 3])
})

test('a Redis that comes back empty has other positions: clients begin anew, and nothing comes twice', async (t) => {
  const own = await startRedis(t)
  const [one, two] = await startInstances(t, 2, { channels }, own)
  const clients = encodings.flatMap(encoding => [sdkClient(t, one!.url, encoding), sdkClient(t, two!.url, encoding)])
  const subscriptions = await Promise.all(clients.map(client => client.subscribe('room:1').subscribed()))
  for (let i = 1; i <= 3; i++) await one!.app.realtime.publish('room:1', `old ${i}`)
  await Promise.all(subscriptions.map(subscription => subscription.arrived(3)))
  await own.restart()
  await Promise.all(subscriptions.map(subscription => subscription.subscribed(2)))
  const { epoch } = await until(() => two!.app.realtime.publish('room:1', 'new 1'), 'Redis is back', 60_000)
  await Promise.all(subscriptions.map(subscription => subscription.arrived(4)))
  for (const { events, data } of subscriptions) {
    t.match(events.subscribing[1], { code: 2500, reason: 'insufficient state' })
    t.match(events.subscribed[1], { wasRecovering: true, recovered: false, streamPosition: { offset: 0, epoch } })
    t.strictSame(data, ['old 1', 'old 2', 'old 3', 'new 1'])
  }
  for (const { events } of clients) t.equal(events.connected.length, 1)
})

test('while an instance is cut off from Redis its clients stay, and get in the end what they missed; or they are told that they can not', async (t) => {
  const link = await startBalancer(t, [redis.url])
  const prefix = randomPrefix()
  const options: Options = { keyPrefix: prefix, channels, authenticate: () => ({ user: 'u' }), onConnect: connection => connection.subscribe('short:host') }
  const [cut, other] = await Promise.all([startApp(t, { ...options, redis: link.url.replace('ws:', 'redis:') }), startApp(t, { ...options, redis: redis.url })])
  const clients = encodings.map(encoding => sdkClient(t, cut!.url, encoding))
  const kept = await Promise.all(clients.map(client => client.subscribe('room:1').subscribed()))
  const short = await Promise.all(clients.map(client => client.subscribe('short:1').subscribed()))
  link.targets = []
  link.cut()
  for (let i = 1; i <= 20; i++) {
    await other!.app.realtime.publish('room:1', i)
    await other!.app.realtime.publish('short:1', i)
    await other!.app.realtime.publish('short:host', i)
  }
  link.targets = [redis.url]
  await Promise.all([
    ...kept.map(subscription => subscription.arrived(20)),
    ...short.map(subscription => subscription.subscribed(2)),
    ...clients.map(client => client.connected(2))
  ])
  for (const subscription of kept) t.strictSame(subscription.offsets, Array.from({ length: 20 }, (_, i) => i + 1))
  for (const { events } of short) {
    // The one that the host has subscribed can not begin anew by itself: the whole connection does.
    t.match(events.subscribed[1], { wasRecovering: true, recovered: false })
  }
  for (const { events } of clients) {
    t.match(events.connecting.at(-1), { code: 3010, reason: 'insufficient state' })
    t.match(events.subscribed.at(-1), { channel: 'short:host', wasRecovering: true, recovered: false, streamPosition: { offset: 20 } })
    t.strictSame(events.disconnected, [])
  }
  await other!.app.realtime.publish('short:1', 'live')
  await until(() => short.every(({ data }) => data.at(-1) === 'live'), 'it goes on')
})

test('a client that can not even begin, because something is lost on its way in, connects again', async (t) => {
  const prefix = randomPrefix()
  const waiting: Array<() => void> = []
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    keyPrefix: prefix,
    redis: redis.url,
    channels,
    authenticate: ({ query }) => query as { user?: string },
    onDisconnect: (_connection, end) => { ends.push(end) },
    async onConnect (connection) {
      if (connection.user === 'watching') return
      await connection.subscribe('room:1')
      if (waiting.length < encodings.length) await new Promise<void>(resolve => waiting.push(resolve))
    }
  })
  const clients = encodings.map(encoding => sdkClient(t, url, encoding))
  await until(() => waiting.length === encodings.length, 'they are on their way in')
  const watching = await sdkClient(t, `${url}/connection/websocket?user=watching`, 'json').subscribe('room:1').subscribed()
  // The first publication is lost for good: neither its message nor its entry is there.
  await command(redis.port, ['HINCRBY', new RedisKeys(prefix).position('room:1'), 's', '1'])
  await app.realtime.publish('room:1', 2)
  await watching.subscribed(2)
  for (const resolve of waiting) resolve()
  for (const client of clients) {
    await client.connected()
    t.match(client.events.subscribed, [{ channel: 'room:1', streamPosition: { offset: 2 } }])
  }

  t.match(ends, encodings.map(() => ({ code: 3010, reason: 'insufficient state' })))

  // The same where the app subscribes it later. This takes no time in which something could be lost, so the test does
  // it by hand.
  for (const connection of connectionsOf(app)) {
    if (connection.user === 'watching') continue
    const subscription = new Subscription(connection, 'room:2', true)
    subscription.join({ start: 'missed', compressible: true, admit: () => {}, remove: () => {}, follow: () => {}, flushTo: () => {} })
    subscription.read({ publications: [], offset: 0, epoch: 'e' })
    subscription.buffer({ ...newPublication('other', { kind: 'json', payload: Buffer.from('2') }), offset: 2, epoch: 'e' })
    t.strictSame(connection.session.subscribed(subscription), {})
  }
  for (const client of clients) {
    await client.connected(2)
    t.match(client.events.connecting.at(-1), { code: 3010 })
  }
})

test('what Pub/Sub has lost without a trace is found in the stream after a while', async (t) => {
  const prefix = randomPrefix()
  const { app, url } = await startApp(t, { keyPrefix: prefix, redis: redis.url, channels })
  const keys = new RedisKeys(prefix)
  const clients = encodings.map(encoding => sdkClient(t, url, encoding))
  const found = await Promise.all(clients.map(client => client.subscribe('room:1').subscribed()))
  const lost = await Promise.all(clients.map(client => client.subscribe('room:2').subscribed()))
  for (const channel of ['room:1', 'room:2']) await app.realtime.publish(channel, 1)
  await Promise.all([...found, ...lost].map(subscription => subscription.arrived(1)))
  // As a publish does it, but for the message; and in the other channel the entry has been dropped meanwhile.
  for (const channel of ['room:1', 'room:2']) await command(redis.port, ['HINCRBY', keys.position(channel), 's', '1'])
  await command(redis.port, ['XADD', keys.stream('room:1'), '2-0', 'd', `j ${Date.now()} other 0\n2`])
  await until(() => found.every(({ data }) => data.length === 2) && lost.every(({ events }) => events.subscribed.length === 2), 'the position check', 90_000)
  for (const subscription of found) {
    t.strictSame([subscription.data, subscription.offsets, subscription.events.subscribed.length], [[1, 2], [1, 2], 1])
  }
  for (const { events } of lost) {
    t.match(events.subscribing[1], { code: 2500, reason: 'insufficient state' })
    t.match(events.subscribed[1], { wasRecovering: true, recovered: false, streamPosition: { offset: 2 } })
  }
})
