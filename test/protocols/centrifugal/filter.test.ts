import t from 'tap'
import type { Test } from 'tap'
import type { FilterNode } from 'centrifuge'
import type { Options } from '../../../index.ts'
import type { App } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { envelopeClient } from '../../helpers/envelope.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const rule = { subscribe: true, publish: true, tagsFilter: true } as const
const channels = {
  news: { ...rule, joinLeave: true },
  kept: { ...rule, history: { size: 10, ttl: '10m' } },
  batched: { ...rule, batchDelay: 50 },
  price: { ...rule, slow: 'latest', history: { size: 10, ttl: '10m', recover: 'cache' } },
  answers: { ...rule, stream: true, history: { size: 100, ttl: '10m' } },
  plain: { subscribe: true }
} as const

/** In both encodings: on one instance in memory, and on two with Redis. What is published comes from the other one. */
function everywhere (name: string, options: Options, run: (t: Test, one: App, two: App, encoding: Encoding) => Promise<void>): void {
  for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
    for (const encoding of encodings) {
      t.test(`${where}, ${encoding}: ${name}`, async (t) => {
        const instances = await startInstances(t, n, { channels, ...options }, store)
        await run(t, instances[0]!, instances[n - 1]!, encoding)
      })
    }
  }
}

const de: FilterNode = { key: 'lang', cmp: 'eq', val: 'de' }
const en: FilterNode = { key: 'lang', cmp: 'eq', val: 'en' }

/** Publishes values, each with its language: { de: [1, 2] } is published in order. */
async function publish ({ app }: App, channel: string, ...values: Array<[lang: string, value: unknown]>): Promise<void> {
  for (const [lang, value] of values) await app.realtime.publish(channel, value, { tags: { lang } })
}

everywhere('a subscriber gets the publications whose tags match, and joins and leaves as everybody', {}, async (t, one, two, encoding) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  const german = await client.subscribe('news:1', { tagsFilter: de }).subscribed()
  const all = await (await sdkClient(t, one.url, encoding).connected()).subscribe('news:1').subscribed()
  const other = await sdkClient(t, two.url, encoding).connected()
  const english = await other.subscribe('news:1', { tagsFilter: en }).subscribed()
  await publish(two, 'news:1', ['de', 1], ['en', 2], ['fr', 3], ['de', 4])
  await two.app.realtime.publish('news:1', 5)
  await publish(two, 'news:1', ['en', 6], ['de', 7])
  await all.arrived(7)
  await german.arrived(3)
  await english.arrived(2)
  t.strictSame([german.data, english.data, all.data], [[1, 4, 7], [2, 6], [1, 2, 3, 4, 5, 6, 7]])
  t.match(german.events.publication[0]!.tags, { lang: 'de' })
  other.client.disconnect()
  await until(() => german.events.leave.length === 1, 'the leave')
  t.equal(german.events.join.length, 3)
})

everywhere('offsets continue, and a client that comes back recovers what matches, once', {}, async (t, one, two, encoding) => {
  const balancer = await startBalancer(t, [one.url, two.url])
  const client = await sdkClient(t, balancer.url, encoding).connected()
  const german = await client.subscribe('kept:1', { tagsFilter: de }).subscribed()
  await publish(two, 'kept:1', ['en', 1], ['de', 2], ['en', 3], ['en', 4], ['de', 5])
  await german.arrived(2)
  t.strictSame([german.data, german.offsets], [[2, 5], [2, 5]])
  await publish(two, 'kept:1', ['en', 6])
  german.sub.unsubscribe()
  await publish(two, 'kept:1', ['de', 7], ['en', 8], ['de', 9], ['en', 10])
  german.sub.subscribe()
  await german.subscribed(2)
  t.match(german.events.subscribed[1], { wasRecovering: true, recovered: true, streamPosition: { offset: 5 } })
  await german.arrived(4)
  balancer.cut()
  await german.subscribed(3)
  t.match(german.events.subscribed[2], { wasRecovering: true, recovered: true })
  await publish(two, 'kept:1', ['en', 11], ['de', 12])
  await german.arrived(5)
  t.strictSame([german.data, german.offsets], [[2, 5, 7, 9, 12], [2, 5, 7, 9, 12]])
})

everywhere('a client for whom nothing matched moves on when it recovers, so that the history need not reach back', {}, async (t, one, two, encoding) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  const german = await client.subscribe('kept:1', { tagsFilter: de }).subscribed()
  // The history keeps ten. Eight are published each time, and none is for the client.
  for (let round = 1; round <= 3; round++) {
    german.sub.unsubscribe()
    for (let i = 0; i < 8; i++) await publish(two, 'kept:1', ['en', i])
    german.sub.subscribe()
    await german.subscribed(round + 1)
    t.match(german.events.subscribed[round], { wasRecovering: true, recovered: true, streamPosition: { offset: 8 * round } })
  }
  await publish(two, 'kept:1', ['de', 'x'])
  await german.arrived(1)
  t.strictSame([german.data, german.offsets], [['x'], [25]])
  // Live it sees no position of what is not for it. If the history has moved on, it is told so.
  for (let i = 0; i < 11; i++) await publish(two, 'kept:1', ['en', i])
  german.sub.unsubscribe()
  german.sub.subscribe()
  await german.subscribed(5)
  t.match(german.events.subscribed[4], { wasRecovering: true, recovered: false, streamPosition: { offset: 36 } })
})

everywhere('a client that changes its filter recovers by the new one', {}, async (t, one, two, encoding) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  const subscription = await client.subscribe('kept:1', { tagsFilter: de }).subscribed()
  await publish(two, 'kept:1', ['de', 1])
  await subscription.arrived(1)
  subscription.sub.unsubscribe()
  subscription.sub.setTagsFilter(en)
  await publish(two, 'kept:1', ['de', 2], ['en', 3])
  subscription.sub.subscribe()
  await publish(two, 'kept:1', ['de', 4], ['en', 5])
  await subscription.arrived(3)
  t.strictSame(subscription.data, [1, 3, 5])
})

everywhere('with a batch delay what matches leaves together, and what is not kept is filtered, too', {}, async (t, one, two, encoding) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  const german = await client.subscribe('batched:1', { tagsFilter: de }).subscribed()
  await publish(two, 'batched:1', ['en', 1], ['de', 2], ['en', 3], ['de', 4])
  await german.arrived(2)
  t.strictSame(german.data, [2, 4])
  const kept = await client.subscribe('kept:1', { tagsFilter: de }).subscribed()
  for (const lang of ['en', 'de']) await two.app.realtime.publish('kept:1', lang, { tags: { lang }, history: false })
  await kept.arrived(1)
  t.strictSame([kept.data, kept.offsets], [['de'], [undefined]])
})

everywhere('a connection that is left out by `except` does not get what matches', {}, async (t, one, two, encoding) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  const german = await client.subscribe('news:1', { tagsFilter: de }).subscribed()
  const other = await (await sdkClient(t, one.url, encoding).connected()).subscribe('news:1', { tagsFilter: de }).subscribed()
  await two.app.realtime.publish('news:1', 1, { tags: { lang: 'de' }, except: client.id })
  await publish(two, 'news:1', ['en', 2], ['de', 3])
  await german.arrived(1)
  await other.arrived(2)
  t.strictSame([german.data, other.data], [[3], [1, 3]])
})

everywhere('with the last value on subscribing it is the newest that matches, as far back as the history has it', {}, async (t, one, two, encoding) => {
  await publish(two, 'price:1', ['de', 1], ['fr', 2], ['en', 3], ['fr', 4])
  const client = await sdkClient(t, one.url, encoding).connected()
  const german = await client.subscribe('price:1', { tagsFilter: de }).arrived(1)
  t.match(german.events.subscribed[0], { recovered: true })
  t.strictSame([german.data, german.offsets], [[1], [1]])
  const all = await (await sdkClient(t, one.url, encoding).connected()).subscribe('price:1').arrived(1)
  t.strictSame(all.data, [4])
  const none = await (await sdkClient(t, one.url, encoding).connected()).subscribe('price:1', { tagsFilter: { key: 'lang', cmp: 'nex' } }).subscribed()
  t.match(none.events.subscribed[0], { recovered: false })
  // It comes back: it has the newest that matches, then there is a newer one.
  german.sub.unsubscribe()
  german.sub.subscribe()
  await german.subscribed(2)
  t.match(german.events.subscribed[1], { wasRecovering: true, recovered: true })
  german.sub.unsubscribe()
  await publish(two, 'price:1', ['de', 5], ['de', 6], ['en', 7])
  german.sub.subscribe()
  await german.subscribed(3)
  await publish(two, 'price:1', ['en', 8], ['de', 9])
  await german.arrived(3)
  t.strictSame(german.data, [1, 6, 9])
  t.strictSame(none.data, [])
})

everywhere('streams are there as a whole or not at all', {}, async (t, one, two, encoding) => {
  async function * words (): AsyncGenerator<string> {
    yield 'Hello '
    yield 'world'
  }
  await publish(two, 'answers:1', ['de', 'before'])
  const { id } = await two.app.realtime.stream('answers:1', words())
  await publish(two, 'answers:1', ['de', 'after'])
  const client = await sdkClient(t, one.url, encoding).connected()
  const streams = await client.subscribe('answers:1', { tagsFilter: { key: 'stream', cmp: 'ex' } }).arrived(1)
  t.match(streams.data, [{ stream: id, from: 0, text: 'Hello world', end: 'done' }])
  const others = await (await sdkClient(t, one.url, encoding).connected()).subscribe('answers:1', { tagsFilter: de }).subscribed()
  await publish(two, 'answers:1', ['de', 'live'])
  await others.arrived(1)
  t.strictSame(others.data, ['live'])
  for (const subscription of [streams, others]) {
    const seen = subscription.data.length
    subscription.sub.unsubscribe()
    subscription.sub.subscribe()
    await subscription.subscribed(2)
    t.match(subscription.events.subscribed[1], { wasRecovering: true, recovered: true })
    t.equal(subscription.data.length, seen, 'nothing comes twice')
  }
})

everywhere('a filter that is not right, or not allowed, is error 107 with the reason', {}, async (t, one, _two, encoding) => {
  const client = await sdkClient(t, one.url, encoding).connected()
  const refused = async (channel: string, tagsFilter: object, options = {}) => {
    const subscription = client.subscribe(channel, { tagsFilter: tagsFilter as FilterNode, ...options })
    const end = await subscription.unsubscribed()
    client.client.removeSubscription(subscription.sub)
    return end
  }
  t.strictSame(await refused('plain:1', de), { code: 107, reason: 'bad request: the namespace does not allow tags filters' })
  t.strictSame(await refused('unknown:1', de), { code: 102, reason: 'unknown channel' })
  t.strictSame(await refused('news:1', { key: 'lang', cmp: 'eq' }), { code: 107, reason: 'bad request: cmp eq in a tags filter needs val, and no vals' })
  t.match(await refused('news:1', {}), { code: 107, reason: /cmp in a tags filter must be one of eq, neq, / })
  let deep: FilterNode = de
  for (let i = 0; i < 500; i++) deep = { op: 'not', nodes: [deep] }
  t.strictSame(await refused('news:1', deep), { code: 107, reason: 'bad request: a tags filter has at most 8 levels' })
  t.equal(client.events.connected.length, 1)
})

everywhere('subscriptions with an equal filter share their encoder, and the last of them takes it away', {}, async (t, one, _two, encoding) => {
  const equal: FilterNode[] = [{ key: 'lang', cmp: 'in', vals: ['de', 'fr'] }, { vals: ['fr', 'de'], cmp: 'in', key: 'lang' }]
  const clients = await Promise.all([...equal, de].map(async (tagsFilter) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    await client.subscribe('news:1', { tagsFilter }).subscribed()
    return client
  }))
  const encoders = new Set(connectionsOf(one.app).map(({ subscriptions }) => subscriptions.get('news:1')!.encoder))
  t.equal(encoders.size, 2)
  await Promise.all(clients.map(({ client }) => client.disconnect()))
})

t.test('clients of every kind in one channel, on two instances, each get exactly what is theirs, also when they come back', async (t) => {
  const all = { mixed: { ...rule, joinLeave: true, compaction: true, history: { size: 1_000, ttl: '10m' } }, news: channels.news } as const
  const instances = await startInstances(t, 2, { channels: all, plain: { envelope: true } }, redis)
  const balancer = await startBalancer(t, instances.map(({ url }) => url))
  const wanted: Array<[filter: FilterNode | null, (lang: string, i: number) => boolean]> = [
    [null, () => true],
    [de, lang => lang === 'de'],
    [{ op: 'not', nodes: [de] }, lang => lang !== 'de'],
    [{ op: 'or', nodes: [en, { key: 'i', cmp: 'gt', val: '90' }] }, (lang, i) => lang === 'en' || i > 90],
    [{ key: 'i', cmp: 'lt', val: '0' }, () => false]
  ]
  // Each filter twice in each encoding, so on both instances. JSON clients know the channel by a number.
  const kinds = encodings.flatMap(encoding => wanted.flatMap(([filter, isWanted]) => [1, 2].map(() => ({ encoding, filter, isWanted }))))
  const clients = await Promise.all(kinds.map(async ({ encoding, filter, isWanted }) => {
    const client = await sdkClient(t, balancer.url, encoding).connected()
    return { subscription: await client.subscribe('mixed:1', { tagsFilter: filter }).subscribed(), isWanted, encoding }
  }))
  const plain = await Promise.all(instances.map(async ({ url }) => {
    const client = await envelopeClient(t, url)
    await client.ask({ subscribe: 'mixed:1' })
    return client
  }))
  const langs = ['de', 'en', 'fr']
  const published = Array.from({ length: 100 }, (_, i) => [langs[i % 3]!, i + 1] as const)
  for (const [lang, i] of published) {
    await instances[i % 2]!.app.realtime.publish('mixed:1', i, { tags: { lang, i: String(i) } })
    if (i === 50) balancer.cut()
  }
  const ownOf = (isWanted: (lang: string, i: number) => boolean) => published.filter(([lang, i]) => isWanted(lang, i)).map(([, i]) => i)
  for (const { subscription, isWanted } of clients) {
    await subscription.subscribed(2)
    await subscription.arrived(ownOf(isWanted).length)
  }
  for (const { subscription, isWanted, encoding } of clients) {
    const own = ownOf(isWanted)
    t.strictSame([subscription.data, subscription.offsets], [own, own], encoding)
    t.match(subscription.events.subscribed[1], { wasRecovering: true, recovered: true })
    t.equal(Number((subscription.sub as unknown as { _id: unknown })._id) > 0, encoding === 'json')
  }
  for (const client of plain) {
    await until(() => client.of('mixed:1').length === 100, 'all publications')
    t.strictSame(client.of('mixed:1').map(({ data }) => data), published.map(([, i]) => i))
  }
})
