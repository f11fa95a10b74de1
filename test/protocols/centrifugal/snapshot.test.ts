import t from 'tap'
import type { Test } from 'tap'
import type { Options, Position, SubscribeGrant } from '../../../index.ts'
import type { App } from '../../helpers/app.ts'
import { collectLog } from '../../helpers/log.ts'
import { startApp } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding, SdkSubscription } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

t.setTimeout(300_000)
const redis = await startRedis(t)

const channels = {
  room: { subscribe: true, history: { size: 10_000, ttl: '10m' } },
  short: { subscribe: true, history: { size: 3, ttl: '10m' } },
  bare: { subscribe: true }
} as const

interface Place { encoding: Encoding, one: App, two: App }

/** The same in both encodings, in memory, and across two instances on Redis. The options may use both. */
function everywhere (name: string, optionsFor: (place: () => Place) => Options, run: (t: Test, place: Place) => Promise<void>): void {
  for (const encoding of encodings) {
    for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
      t.test(`${encoding}, ${where}: ${name}`, async (t) => {
        const instances: App[] = []
        const place = (): Place => ({ encoding, one: instances[0]!, two: instances[n - 1]! })
        instances.push(...await startInstances(t, n, { channels, ...optionsFor(place) }, store))
        await run(t, place())
      })
    }
  }
}

const top = ({ app }: App, channel: string): Promise<Position> => app.realtime.history(channel, { limit: 0 })
const from = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i)

async function publishMany ({ app }: App, channel: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await app.realtime.publish(channel, i)
}

/** Waits until it has everything that was published, and checks that nothing is missing, twice or out of order. */
async function gapless (t: Test, subscription: SdkSubscription, first: number, last: number): Promise<void> {
  await until(() => (subscription.offsets.at(-1) ?? 0) >= last, `publication ${last}`, 60_000)
  t.strictSame(subscription.offsets, from(first, last))
}

/** What a database and its readers do: the position first, then the data, while others go on to publish. */
const reading = (place: () => Place): Options => ({
  async onSubscribe (_connection, channel): Promise<SubscribeGrant> {
    const { one, two } = place()
    const { offset, epoch } = await top(one, channel)
    await publishMany(two, channel, 3)
    return { data: { offset }, since: { offset, epoch } }
  }
})

everywhere('what is published while onSubscribe reads its snapshot comes after it, in order', reading, async (t, { encoding, one, two }) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  await publishMany(two, 'room:1', 5)
  const subscription = await client.subscribe('room:1').subscribed()
  await publishMany(two, 'room:1', 2)
  await gapless(t, subscription, 6, 10)
  const { data, ...context } = subscription.events.subscribed[0]!
  t.strictSame(client.dec(data), { offset: 5 })
  t.match(context, { wasRecovering: false, recovered: false, positioned: true, recoverable: true, streamPosition: { offset: 5 } })
  t.equal(subscription.log[0], subscription.events.subscribed[0], 'the snapshot comes first')
})

everywhere('many clients subscribe while many publish at once: none has a gap', reading, async (t, { encoding, one, two }) => {
  const clients = await Promise.all(from(1, 10).map(() => sdkClient(t, one.url, encoding).connected()))
  const flow = { ended: false }
  const flows = Array.from({ length: 8 }, async () => {
    while (!flow.ended) await Promise.all([publishMany(two, 'room:1', 5), publishMany(one, 'room:1', 5), tick()])
  })
  const subscriptions = await Promise.all(clients.map(client => client.subscribe('room:1').subscribed()))
  flow.ended = true
  await Promise.all(flows)
  const { offset } = await top(one, 'room:1')
  t.comment(`${offset} publications`)
  for (const [i, subscription] of subscriptions.entries()) {
    const snapshot = clients[i]!.dec(subscription.events.subscribed[0]!.data) as { offset: number }
    await gapless(t, subscription, snapshot.offset + 1, offset)
  }
})

/** In memory a publish waits for nothing: this lets sockets have their turn. */
const tick = () => new Promise(resolve => { setImmediate(resolve) })

everywhere('a client that comes back gets all that it missed, from its own position', reading, async (t, { encoding, one, two }) => {
  const balancer = await startBalancer(t, [one.url])
  const client = await sdkClient(t, balancer.url, encoding).connected()
  const subscription = await client.subscribe('room:1').subscribed()
  await gapless(t, subscription, 1, 3)
  balancer.targets = []
  balancer.cut()
  await until(() => client.client.state === 'connecting', 'it is away')
  await publishMany(two, 'room:1', 4)
  balancer.targets = [two.url]
  await subscription.subscribed(2)
  await gapless(t, subscription, 1, 10)
  t.match(subscription.events.subscribed[1], { wasRecovering: true, recovered: true, streamPosition: { offset: 3 } })
  t.strictSame(client.dec(subscription.events.subscribed[1]!.data), { offset: 7 }, 'the newer snapshot is there too')
})

/** Publishes no more meanwhile than the short history keeps. */
const readingLittle = (place: () => Place): Options => ({
  async onSubscribe (_connection, channel) {
    const { offset, epoch } = await top(place().one, channel)
    await publishMany(place().two, channel, 2)
    return { data: { offset }, since: { offset, epoch } }
  }
})

everywhere('a client that cannot recover from its own position starts from the snapshot', readingLittle, async (t, { encoding, one, two }) => {
  await publishMany(two, 'short:1', 10)
  const { epoch } = await top(one, 'short:1')
  const client = await sdkClient(t, one.url, encoding).connected()
  const subscription = await client.subscribe('short:1', { since: { offset: 2, epoch } }).subscribed()
  await publishMany(two, 'short:1', 1)
  await gapless(t, subscription, 11, 13)
  t.match(subscription.events.subscribed, [{ wasRecovering: true, recovered: false, streamPosition: { offset: 10 } }])
  t.strictSame(client.dec(subscription.events.subscribed[0]!.data), { offset: 10 })
})

everywhere('a client that would rather get an error than not recover gets it, with a snapshot too', readingLittle, async (t, { encoding, one, two }) => {
  await publishMany(two, 'short:1', 10)
  const { epoch } = await top(one, 'short:1')
  const client = await sdkClient(t, one.url, encoding).connected()
  const states: Position[] = [{ offset: 2, epoch }]
  const subscription = client.subscribe('short:1', { getState: async () => states.shift() ?? top(one, 'short:1') } as object)
  await subscription.subscribed()
  t.equal(states.length, 0)
  t.match(subscription.events.subscribed, [{ wasRecovering: true, recovered: true }])
})

for (const encoding of encodings) {
  t.test(`${encoding}: a snapshot that is too old for the history is refused with a temporary error, and read again`, async (t) => {
    const { logger, entries } = collectLog()
    const times = { count: 0 }
    const { app, url } = await startApp(t, {
      redis: false,
      channels,
      async onSubscribe (_connection, channel) {
        const { offset, epoch } = await app.realtime.history(channel, { limit: 0 })
        times.count++
        if (times.count === 1) for (let i = 0; i < 4; i++) await app.realtime.publish(channel, i)
        if (times.count === 2) return { data: 'of another epoch', since: { offset, epoch: 'gone' } }
        if (times.count === 3) return { data: 'of the future', since: { offset: offset + 2, epoch } }
        return { data: times.count, since: { offset, epoch } }
      }
    }, { logger })
    const client = await sdkClient(t, url, encoding).connected()
    const subscription = await client.subscribe('short:1').subscribed()
    t.match(subscription.events.error, Array(3).fill({ error: { code: 100, message: 'internal server error' } }))
    t.equal(client.dec(subscription.events.subscribed[0]!.data), 4)
    const failed = entries.filter(({ event }) => event === 'call.failed')
    t.match(failed, Array(3).fill({ level: 40, call: 'onSubscribe', err: { code: 'FST_CRWS_SNAPSHOT_GAP' } }))
    t.match(failed[0]!.msg, /channel short:1 .* 4 publications, which is more than the history keeps/)
    t.match(failed[1]!.msg, /the epoch has changed/)
    t.match(failed[2]!.msg, /2 publications ahead/)
    t.equal(entries.filter(({ level }) => level > 40).length, 0)
  })

  t.test(`${encoding}: since for a channel without history, or a since that is no position, is said in the log`, async (t) => {
    const { logger, entries } = collectLog()
    const grants: Record<string, SubscribeGrant> = {
      'bare:1': { data: 1, since: { offset: 0, epoch: '' } },
      'room:1': { data: 1, since: {} as Position }
    }
    const { url } = await startApp(t, { redis: false, channels, onSubscribe: (_connection, channel) => grants[channel] }, { logger })
    const client = await sdkClient(t, url, encoding).connected()
    for (const channel of Object.keys(grants)) {
      const { events } = client.subscribe(channel)
      await until(() => events.error.length > 0, channel)
      t.match(events.error[0], { error: { code: 100 } })
    }
    const texts = entries.filter(({ err }) => err?.code === 'FST_CRWS_INVALID_ARGUMENT').map(({ msg }) => msg)
    t.match(texts.find(text => text.includes('bare:1')), /since from onSubscribe.*expected undefined: the namespace of channel bare:1 keeps no history/)
    t.match(texts.find(text => text.includes('{}')), /since from onSubscribe: got \{\}, expected \{ offset, epoch \}/)
  })

  t.test(`${encoding}: a client that leaves and comes back pays for what it is sent after the snapshot`, async (t) => {
    const { app, url } = await startApp(t, {
      redis: false,
      channels,
      rateLimit: { messages: { max: 60, timeWindow: '10m' } },
      onSubscribe: () => ({ data: 'old', since: { offset: 0, epoch: '' } })
    })
    await app.realtime.publish('room:1', 'x'.repeat(400_000)) // 97 times 4 KiB
    const client = await sdkClient(t, url, encoding).connected()
    const again = (before?: SdkSubscription): SdkSubscription => {
      if (before !== undefined) client.client.removeSubscription(before.sub) // so it has no position of its own
      return client.subscribe('room:1')
    }
    const first = await (await again().subscribed()).arrived(1)
    const second = await (await again(first).subscribed()).arrived(1)
    const third = again(second)
    await until(() => third.events.error.length > 0, 'it is refused')
    t.match(third.events.error[0], { error: { code: 111 } })
  })
}

for (const [where, store] of [['in memory', undefined], ['on Redis', redis]] as const) {
  t.test(`${where}: a plain client that is subscribed with since has no gap either`, async (t) => {
    const [one] = await startInstances(t, 1, {
      channels,
      async onConnect (connection) {
        const { offset, epoch } = await top(one!, 'room:1')
        await publishMany(one!, 'room:1', 3)
        connection.send({ snapshot: offset })
        await connection.subscribe('room:1', { since: { offset, epoch } })
      }
    }, store)
    const { realtime } = one!.app
    let count = 0
    const flow = { ended: false }
    const flows = Array.from({ length: 4 }, async () => {
      while (!flow.ended) await Promise.all([realtime.publish('room:1', { n: ++count }), tick()])
    })
    const clients = await Promise.all(from(1, 5).map(() => connect(t, `${one!.url}/ws`)))
    await until(() => clients.every(({ messages }) => messages.length > 20), 'they are live')
    flow.ended = true
    await Promise.all(flows)
    const { publications } = await realtime.history('room:1')
    for (const client of clients) {
      const [snapshot] = client.messages.map(message => JSON.parse(String(message)))
      const expected = publications.filter(({ offset }) => offset > snapshot.snapshot).map(({ data }) => data)
      await until(() => client.messages.length > expected.length, 'everything')
      t.strictSame(client.messages.slice(1).map(message => JSON.parse(String(message))), expected)
    }
    const connection = Array.from(realtime.connections)[0]!
    await t.rejects(connection.subscribe('room:2', { since: {} as Position }), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  })
}
