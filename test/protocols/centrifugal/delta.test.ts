import t from 'tap'
import type { Test } from 'tap'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Options } from '../../../index.ts'
import type { App } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { connectionsOf, MUCH } from '../../helpers/connections.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { SdkSubscription } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

t.setTimeout(120_000)
const redis = await startRedis(t)

const history = { size: 1_000, ttl: '10m' } as const
const channels: Options['channels'] = {
  book: { subscribe: true, history, delta: true },
  live: { subscribe: true, delta: true, joinLeave: true },
  late: { subscribe: true, delta: true, batchDelay: 20 },
  held: { subscribe: true, delta: true, batchDelay: '1s' },
  newest: { subscribe: true, delta: true, slow: 'latest' },
  value: { subscribe: true, history: { ...history, recover: 'cache' }, delta: true },
  whole: { subscribe: true, history }
}
const fossil = { delta: 'fossil' } as const

/** Runs on one instance in memory, and on two with Redis. What is published comes from the other one. */
function everywhere (name: string, run: (t: Test, one: App, two: App) => Promise<void>, options: Options = {}): void {
  for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
    t.test(`${where}: ${name}`, async (t) => {
      const instances = await startInstances(t, n, { channels, ...options }, store)
      await run(t, instances[0]!, instances[n - 1]!)
    })
  }
}

/** A document of about 1 KB that is a little different each time. */
function document (n: number): Record<string, unknown> {
  const rows = Array.from({ length: 20 }, (_, i) => ({ price: 1_000 + i, size: i === n % 20 ? n : 7, venue: 'Zürich → 東京' }))
  return { n, rows }
}

async function publish ({ app }: App, channel: string, ...values: unknown[]): Promise<void> {
  for (const value of values) await app.realtime.publish(channel, value)
}

/** How many came in full and how many as a patch, as the SDK has counted them. */
function counts ({ sub }: SdkSubscription): [full: number, deltas: number] {
  const { numFullPayloads, numDeltaPayloads } = sub.deltaStats()
  return [numFullPayloads, numDeltaPayloads]
}

for (const encoding of encodings) {
  for (const channel of ['book:x', 'live:x', 'late:x']) {
    everywhere(`${encoding}: in ${channel} the first publication comes in full, the others as patches`, async (t, one, two) => {
      const client = await sdkClient(t, one.url, encoding).connected()
      const book = await client.subscribe(channel, fossil).subscribed()
      for (let n = 1; n <= 5; n++) {
        await publish(two, channel, document(n))
        await book.arrived(n)
      }
      t.strictSame(book.data, [1, 2, 3, 4, 5].map(document))
      t.strictSame(counts(book), [1, 4])
      t.ok(book.sub.deltaStats().compressionRatio > 0.6)
    })
  }

  everywhere(`${encoding}: a batch of several patches each against the one before`, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const live = await client.subscribe('live:x', fossil).subscribed()
    const late = await client.subscribe('late:x', fossil).subscribed()
    const numbers = Array.from({ length: 40 }, (_, i) => i)
    await Promise.all(numbers.flatMap(n => ['live:x', 'late:x'].map(channel => two.app.realtime.publish(channel, document(n)))))
    await Promise.all([live.arrived(40), late.arrived(40)])
    for (const sub of [live, late]) {
      t.strictSame(sub.data, numbers.map(document))
      t.strictSame(counts(sub), [1, 39])
    }
  })

  everywhere(`${encoding}: who comes later starts in full, beside those who go on with patches`, async (t, one, two) => {
    const first = await sdkClient(t, one.url, encoding).connected()
    const early = await first.subscribe('live:x', fossil).subscribed()
    await publish(two, 'live:x', document(1), document(2))
    await early.arrived(2)
    const second = await sdkClient(t, one.url, encoding).connected()
    const later = await second.subscribe('live:x', fossil).subscribed()
    await publish(two, 'live:x', document(3), document(4))
    await Promise.all([early.arrived(4), later.arrived(2)])
    t.strictSame([early.data, later.data], [[1, 2, 3, 4].map(document), [3, 4].map(document)])
    t.strictSame([counts(early), counts(later)], [[1, 3], [1, 1]])
  })

  t.test(`${encoding}: who comes within a batch, or has a part of it already, goes on with the rest`, async (t) => {
    const [one] = await startInstances(t, 1, { channels })
    const first = await sdkClient(t, one!.url, encoding).connected()
    const early = await first.subscribe('held:x', fossil).subscribed()
    await publish(one!, 'held:x', document(1))
    const second = await sdkClient(t, one!.url, encoding).connected()
    const later = await second.subscribe('held:x', fossil).subscribed()
    const connection = connectionsOf(one!.app).find(({ id }) => id === first.id)!
    connection.send('it must come after what is pending')
    await publish(one!, 'held:x', document(2), document(3))
    await Promise.all([early.arrived(3), later.arrived(2)])
    await publish(one!, 'held:x', document(4))
    await Promise.all([early.arrived(4), later.arrived(3)])
    t.strictSame([early.data, later.data], [[1, 2, 3, 4].map(document), [2, 3, 4].map(document)])
    t.strictSame([counts(early), counts(later)], [[1, 3], [1, 2]])
  })

  everywhere(`${encoding}: what is recovered is a chain of patches, which goes on live`, async (t, one, two) => {
    const balancer = await startBalancer(t, [one.url, two.url])
    const client = await sdkClient(t, balancer.url, encoding).connected()
    const book = await client.subscribe('book:x', fossil).subscribed()
    await publish(two, 'book:x', document(1), document(2))
    await book.arrived(2)
    client.client.disconnect()
    await publish(two, 'book:x', document(3), document(4), document(5))
    client.client.connect()
    await book.arrived(5)
    t.match(book.events.subscribed[1], { wasRecovering: true, recovered: true })
    t.strictSame(counts(book), [2, 3], '3 in full, 4 and 5 against the one before')
    await publish(two, 'book:x', document(6), document(7))
    await book.arrived(7)
    t.strictSame(book.data, [1, 2, 3, 4, 5, 6, 7].map(document))
    t.strictSame(book.offsets, [1, 2, 3, 4, 5, 6, 7])
    t.strictSame(counts(book), [2, 5], '5, which was recovered, is the base of 6')
  })

  everywhere(`${encoding}: who has recovered nothing starts in full, as after a new epoch`, async (t, one, two) => {
    const balancer = await startBalancer(t, [one.url, two.url])
    const client = await sdkClient(t, balancer.url, encoding).connected()
    await publish(two, 'book:x', document(0))
    const book = client.subscribe('book:x', { ...fossil, since: { offset: 0, epoch: 'another' } })
    await book.subscribed()
    t.match(book.events.subscribed[0], { wasRecovering: true, recovered: false })
    await publish(two, 'book:x', document(1), document(2))
    await book.arrived(2)
    balancer.cut()
    await book.subscribed(2)
    await publish(two, 'book:x', document(3))
    await book.arrived(3)
    t.strictSame(book.data, [1, 2, 3].map(document))
    t.strictSame(counts(book), [2, 1])
  })

  everywhere(`${encoding}: with the last value on subscribing, that is the base`, async (t, one, two) => {
    await publish(two, 'value:x', document(1), document(2))
    const client = await sdkClient(t, one.url, encoding).connected()
    const value = await client.subscribe('value:x', fossil).arrived(1)
    await publish(two, 'value:x', document(3))
    await value.arrived(2)
    t.strictSame(value.data, [2, 3].map(document))
    t.strictSame(counts(value), [1, 1])
  })

  everywhere(`${encoding}: joins, and publications that are not kept, do not break the chain`, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const other = await sdkClient(t, two.url, encoding).connected()
    const live = await client.subscribe('live:x', fossil).subscribed()
    const book = await client.subscribe('book:x', fossil).subscribed()
    await publish(two, 'live:x', document(1))
    await other.subscribe('live:x').subscribed()
    await until(() => live.events.join.length >= 2, 'both joins')
    await publish(two, 'live:x', document(2))
    await publish(two, 'book:x', document(1))
    await two.app.realtime.publish('book:x', document(2), { history: false })
    await publish(two, 'book:x', document(3))
    await Promise.all([live.arrived(2), book.arrived(3)])
    t.strictSame([live.data, book.data], [[1, 2].map(document), [1, 2, 3].map(document)])
    t.strictSame([counts(live), counts(book)], [[1, 1], [1, 2]])
    t.match(live.events.join[1], { info: { client: other.id } })
  })

  everywhere(`${encoding}: who is left out by except gets the next one in full`, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const other = await sdkClient(t, one.url, encoding).connected()
    const [left, right] = await Promise.all([client, other].map(one => one.subscribe('live:x', fossil).subscribed()))
    await publish(two, 'live:x', document(1), document(2))
    await Promise.all([left!.arrived(2), right!.arrived(2)])
    const send = (n: number, except?: string) => two.app.realtime.publish('live:x', document(n), { except })
    await Promise.all([send(3), send(4, client.id), send(5), send(6)])
    await Promise.all([left!.arrived(5), right!.arrived(6)])
    await send(7, client.id)
    await right!.arrived(7)
    await send(8)
    await Promise.all([left!.arrived(6), right!.arrived(8)])
    t.strictSame(left!.data, [1, 2, 3, 5, 6, 8].map(document))
    t.strictSame(right!.data, [1, 2, 3, 4, 5, 6, 7, 8].map(document))
    t.strictSame(counts(left!), [3, 3])
    t.strictSame(counts(right!), [1, 7])
  })

  everywhere(`${encoding}: who was slow gets the newest in full, then patches`, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const newest = await client.subscribe('newest:x', fossil).subscribed()
    const witness = await sdkClient(t, one.url, encoding).connected()
    const all = await witness.subscribe('newest:x').subscribed()
    await publish(two, 'newest:x', document(1), document(2))
    await newest.arrived(2)
    const socket = (client.client as unknown as { _transport: { _transport: { pause (): void, resume (): void } } })._transport._transport
    socket.pause()
    connectionsOf(one.app).find(({ id }) => id === client.id)!.send(MUCH)
    await publish(two, 'newest:x', document(3), document(4), document(5))
    await until(() => (all.data.at(-1) as { n?: number }).n === 5, 'all of it is delivered')
    socket.resume()
    await until(() => newest.data.some(data => (data as { n?: number }).n === 5), 'the newest')
    const [full, deltas] = counts(newest)
    await publish(two, 'newest:x', document(6))
    await until(() => newest.data.some(data => (data as { n?: number }).n === 6), 'the next')
    t.strictSame(newest.data.at(-2), document(5))
    t.strictSame(newest.data.at(-1), document(6))
    t.notOk(newest.data.some(data => [3, 4].includes((data as { n?: number }).n!)))
    t.strictSame(counts(newest), [full, deltas + 1])
  }, { maxBufferedBytes: 100_000_000, heartbeat: { interval: '1m', timeout: '1m' } })

  everywhere(`${encoding}: text, JSON, binary data and what is too large arrive as they were published`, async (t, one, two) => {
    const client = await sdkClient(t, one.url, encoding).connected()
    const values = [
      'a text "with" quotes '.repeat(20), `${'a text "with" quotes '.repeat(20)}more`, '', null, 0, false, [], {}, document(1), 'ü'.repeat(200), `${'ü'.repeat(201)}`,
      Buffer.alloc(500, 0x80), Buffer.alloc(501, 0x80), document(2), { much: 'x'.repeat(70_000) }, { much: 'x'.repeat(70_001) }, document(3), document(4)
    ]
    const live = await client.subscribe('live:x', fossil).subscribed()
    const book = await client.subscribe('book:x', fossil).subscribed()
    for (const value of values) await Promise.all([publish(two, 'live:x', value), publish(two, 'book:x', value)])
    await Promise.all([live.arrived(values.length), book.arrived(values.length)])
    const expected = values.map(value => Buffer.isBuffer(value) && encoding === 'json' ? value.toString('base64') : value)
    t.strictSame(live.data, expected)
    t.strictSame(book.data, expected)
    const { publications } = await book.sub.history({ limit: 100 })
    t.strictSame(publications.map(({ data }) => client.dec(data)), expected, 'history is never encoded as deltas')
  })

  everywhere(`${encoding}: random documents with random changes arrive as they were published, whoever comes and goes`, async (t, one, two) => {
    const random = randomFrom(7)
    const balancer = await startBalancer(t, [one.url, two.url])
    const clients = await Promise.all(Array.from({ length: 4 }, () => sdkClient(t, balancer.url, encoding).connected()))
    const subs = clients.map((client, i) => client.subscribe('book:x', i === 3 ? {} : fossil))
    await Promise.all(subs.map(sub => sub.subscribed()))
    const published: unknown[] = []
    let text = ''
    for (let round = 0; round < 60; round++) {
      const burst = Array.from({ length: 1 + random(4) }, () => {
        text = changed(text, random)
        return random(3) === 0 ? text : { text, list: Array.from(text).slice(0, 30) }
      })
      published.push(...burst)
      await Promise.all(burst.map(value => two.app.realtime.publish('book:x', value)))
      if (random(2) === 0) await Promise.all(subs.map(sub => sub.arrived(published.length)))
      if (random(6) === 0) balancer.cut()
      if (random(4) === 0) {
        const { sub } = subs[random(3)]!
        sub.unsubscribe()
        sub.subscribe()
      }
    }
    await Promise.all(subs.map(sub => sub.arrived(published.length)))
    for (const sub of subs) t.strictSame(sub.data, published)
    t.strictSame(subs.flatMap(sub => sub.events.error), [])
    t.ok(subs.slice(0, 3).every(sub => counts(sub)[1] > 0))
    t.strictSame(counts(subs[3]!), [0, 0])
  })
}

everywhere('clients of all kinds get the same in one channel', async (t, one, two) => {
  const plain = await connect(t, `${one.url}/ws`)
  const sdk = await Promise.all(encodings.flatMap(encoding => [fossil, {}].map(async options => {
    const client = await sdkClient(t, one.url, encoding).connected()
    return client.subscribe('live:x', options).subscribed()
  })))
  await publish(two, 'live:x', ...[1, 2, 3].map(document))
  await Promise.all(sdk.map(sub => sub.arrived(3)))
  for (const sub of sdk) t.strictSame(sub.data, [1, 2, 3].map(document))
  t.strictSame(sdk.map(counts), [[1, 2], [0, 0], [1, 2], [0, 0]])
  for (const n of [1, 2, 3]) t.strictSame(JSON.parse(await plain.next() as string), document(n))
}, { onConnect: connection => connection.protocol === 'plain' ? connection.subscribe('live:x').then(() => {}) : undefined })

t.test('where the namespace has no delta, or the app subscribes the client, publications come as always', async (t) => {
  const [one] = await startInstances(t, 1, { channels, authenticate: () => ({ user: 'ann', channels: ['live:mine'] }) })
  for (const encoding of encodings) {
    const client = await sdkClient(t, one!.url, encoding).connected()
    const whole = await client.subscribe('whole:x', fossil).subscribed()
    await publish(one!, 'whole:x', document(1), document(2))
    await publish(one!, 'live:mine', document(3), document(4))
    await until(() => client.data('live:mine').length >= 2, 'what the app has subscribed it to')
    t.strictSame(client.data('live:mine').slice(-2), [3, 4].map(document))
    await whole.arrived(2)
    t.strictSame(whole.data, [1, 2].map(document))
    t.strictSame(counts(whole), [0, 0])
  }
})

t.test('when Redis has lost the stream, clients recover nothing, and start in full', async (t) => {
  const own = await startRedis(t)
  const [one] = await startInstances(t, 1, { channels }, own)
  const subs = await Promise.all(encodings.map(async encoding => {
    const client = await sdkClient(t, one!.url, encoding).connected()
    return client.subscribe('book:x', fossil).subscribed()
  }))
  await publish(one!, 'book:x', document(1), document(2))
  await Promise.all(subs.map(sub => sub.arrived(2)))
  await own.restart()
  await until(async () => one!.app.realtime.publish('book:x', document(3)).then(() => true, () => false), 'Redis is up')
  await Promise.all(subs.map(sub => sub.subscribed(2)))
  await publish(one!, 'book:x', document(4), document(5))
  await until(() => subs.every(sub => (sub.data.at(-1) as { n: number }).n === 5), 'what came after')
  for (const sub of subs) {
    t.strictSame(sub.data.slice(0, 2), [1, 2].map(document))
    t.strictSame(sub.data.slice(-2), [4, 5].map(document))
    t.strictSame(sub.events.error, [])
  }
})

t.test('in JSON data is a string, and only a patch is said to be one', async (t) => {
  const [one] = await startInstances(t, 1, { channels })
  const socket = await connect(t, `${one!.url}/connection/websocket`)
  await publish(one!, 'book:x', document(1), document(2))
  const { epoch } = await one!.app.realtime.history('book:x', { limit: 0 })
  socket.socket.send(`{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"book:x","delta":"fossil","recover":true,"epoch":"${epoch}"}}`)
  await socket.next()
  const { subscribe } = JSON.parse(await socket.next() as string)
  const publications = [{ data: JSON.stringify(document(1)), offset: 1 }, { delta: true, offset: 2 }]
  t.match(subscribe, { delta: true, recovered: true, publications })
  t.notOk('delta' in subscribe.publications[0])
  for (const [value, data] of [['text', '"text"'], [Buffer.from('bytes'), '"Ynl0ZXM="']] as const) {
    await publish(one!, 'book:x', value)
    t.match(JSON.parse(await socket.next() as string), { push: { channel: 'book:x', pub: { data } } })
  }
  socket.socket.send('{"id":3,"history":{"channel":"book:x","limit":1}}')
  t.match(JSON.parse(await socket.next() as string), { history: { publications: [{ data: document(1) }] } })
  socket.socket.send('{"id":4,"subscribe":{"channel":"whole:x","delta":"fossil"}}')
  const whole = JSON.parse(await socket.next() as string)
  t.match(whole, { id: 4, subscribe: { positioned: true } })
  t.notOk('delta' in whole.subscribe, 'its namespace has none')
})

t.test('what was published before the last one leaves the memory, though each was encoded against the one before', async (t) => {
  const [one] = await startInstances(t, 1, { channels })
  const live = await (await sdkClient(t, one!.url, 'protobuf').connected()).subscribe('live:x', fossil).subscribed()
  const published: Array<WeakRef<Buffer>> = []
  for (let n = 1; n <= 10; n++) {
    const data = Buffer.from(JSON.stringify(document(n)))
    published.push(new WeakRef(data))
    await publish(one!, 'live:x', data)
    await live.arrived(n)
  }
  t.strictSame(counts(live), [1, 9])
  await until(() => {
    collectGarbage()
    return published.slice(0, -1).every(data => data.deref() === undefined)
  }, 'they are gone')
})

/** Whole numbers below a limit, the same ones for a seed. */
function randomFrom (seed: number): (limit: number) => number {
  let state = seed
  return limit => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor(state / 2 ** 32 * limit)
  }
}

const PIECES = ['é', '日本', 'x', '"quoted"', '😀', '\n', 'ñandú ', 'a longer piece of text ']

function changed (text: string, random: (limit: number) => number): string {
  const characters = Array.from(text)
  for (let i = 0; i <= random(4); i++) {
    const pieces = Array.from({ length: random(12) }, () => PIECES[random(PIECES.length)]!)
    characters.splice(random(characters.length + 1), random(characters.length > 1_000 ? 300 : 10), ...pieces)
  }
  return characters.join('')
}
