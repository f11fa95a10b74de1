import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { MemoryBroker } from '../../lib/backends/memory/broker.ts'
import { Hub } from '../../lib/hub/hub.ts'
import type { Subscriber } from '../../lib/hub/subscriber.ts'
import { topOf } from '../../lib/hub/recovery.ts'
import { Subscription } from '../../lib/hub/subscription.ts'
import type { Broker, ChannelListener, History } from '../../lib/model/broker.ts'
import { ChannelNamespaces } from '../../lib/model/channel-rules.ts'
import type { Batch, Encoder, Frame } from '../../lib/model/encoder.ts'
import { newPublication } from '../../lib/model/publication.ts'
import type { Position, Publication } from '../../lib/model/publication.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { range } from '../backends/broker-contract.ts'
import { startApp } from '../helpers/app.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const HISTORY_SIZE = 5
const { channels } = resolveOptions({ channels: { kept: { history: { size: HISTORY_SIZE, ttl: '1m' } }, slowly: { batchDelay: 1_000 }, soon: { batchDelay: 20 }, price: { slow: 'latest' }, last: { history: { size: HISTORY_SIZE, ttl: '1m', recover: 'cache' } } } }, {})
const namespaces = new ChannelNamespaces(channels)

/** Lets everything run that waits for a promise or for the end of this turn. */
const turn = () => new Promise(resolve => setImmediate(setImmediate, resolve))

/** Encodes payloads as they are, and counts them. */
class CountingEncoder implements Encoder {
  readonly name = 'plain'
  readonly transport = 'websocket'
  encoded = 0
  endOf (): never { throw new Error('the hub ends no connection') }
  message (): never { throw new Error('the hub sends no messages') }
  closingMessage (): undefined {}
  event (_channel: string, { payload }: Publication): Frame { return { payload, binary: false } }
  publication (_channel: string, { payload }: Publication): Frame {
    this.encoded++
    return { payload, binary: false }
  }
}

/** A connection as the hub sees it. It writes down what it gets. */
class TestSubscriber implements Subscriber {
  readonly id: string = randomUUID()
  readonly encoder: CountingEncoder
  readonly received: string[] = []
  readonly positionsLost: string[] = []
  readonly subscriptions = new Map<string, Subscription>()
  readonly events: boolean
  open = true
  congested = false
  flushedBy = 0
  writes = 0
  readonly outbox = {
    bufferedBytes: 0,
    corked: false,
    isCongested: () => this.congested,
    cork: () => { this.outbox.corked = true },
    uncork: () => {
      this.outbox.corked = false
      this.writes++
    },
    writeBatch: ({ frames }: Batch) => {
      if (!this.outbox.corked) this.writes++
      this.received.push(...frames.map(({ payload }) => String(payload)))
    }
  }

  constructor ({ events = false, encoder = new CountingEncoder() } = {}) {
    this.events = events
    this.encoder = encoder
  }

  write ({ payload }: Frame): boolean { return this.received.push(String(payload)) > 0 }
  flush (): void { for (const subscription of this.subscriptions.values()) subscription.flush() }
  drained (): void { for (const subscription of this.subscriptions.values()) subscription.sendSkipped() }
  positionLost (channel: string): void { this.positionsLost.push(channel) }
  leave (channel: string): void { this.subscriptions.get(channel)?.end() }
}

const newConnection = (settings?: { events?: boolean, encoder?: CountingEncoder }) => new TestSubscriber(settings)

/** Steps that the test takes by hand, oldest first. */
class Steps {
  readonly #waiting: Array<() => void> = []

  get length (): number { return this.#waiting.length }

  /** Resolves when the test takes this step. */
  wait (): Promise<void> { return new Promise(resolve => this.#waiting.push(resolve)) }

  async take (): Promise<void> {
    this.#waiting.shift()?.()
    await turn()
  }
}

/**
 * The memory broker over links that are as slow as the test wants. The test says when a subscribe takes effect and is
 * acknowledged, when a history is read and answered, and when a publication is delivered. As on Redis, the order
 * between them is open.
 */
async function slowBroker (t: Test, maxRecovery = Infinity) {
  const memory = new MemoryBroker()
  const calls: string[] = []
  const [effects, acks, reads, answers] = [new Steps(), new Steps(), new Steps(), new Steps()]
  const listeners = new Map<string, ChannelListener>()
  const link: Array<[string, Publication]> = []
  const tops: number[] = []
  const failing: Error[] = []
  const broker: Broker = {
    up: true,
    start: listener => memory.start(listener),
    publish: (...args) => memory.publish(...args),
    close: () => memory.close(),
    removeHistory: channel => memory.removeHistory(channel),
    async subscribe (channel, history, listener) {
      calls.push(`subscribe ${channel}`)
      listeners.set(channel, listener)
      await effects.wait()
      await memory.subscribe(channel, history, { deliver: publication => { link.push([channel, publication]) } })
      await acks.wait()
      const failure = failing.shift()
      if (failure !== undefined) throw failure
    },
    unsubscribe (channel) {
      calls.push(`unsubscribe ${channel}`)
      memory.unsubscribe(channel)
      // What is still under way finds nobody.
      link.splice(0, link.length, ...link.filter(([name]) => name !== channel))
    },
    async history (channel, query) {
      await reads.wait()
      const history: Promise<History> = memory.history(channel, query)
      const { offset } = await history
      await answers.wait()
      tops.push(offset)
      return history
    }
  }
  const missed: unknown[] = []
  const hub = new Hub(broker, namespaces, maxRecovery, {
    recording: false, delivered: () => {}, missed: (...args) => { missed.push(args) }
  })
  await broker.start({ stateChanged: () => {}, missed: () => {} })
  t.teardown(() => broker.close())
  let published = 0
  const publish = (channel: string, text = String(published + 1), kind: Publication['kind'] = 'text', except?: string) => {
    published++
    return memory.publish(channel, { ...publicationOf(text, kind), ...(except !== undefined && { except }) }, { history: kind === 'text' ? namespaces.rules(channel).history : undefined })
  }
  const deliver = () => {
    const [next] = link.splice(0, 1)
    if (next !== undefined) listeners.get(next[0])?.deliver(next[1])
  }
  /** Everything that waits, until nothing waits any more. */
  const settle = async () => {
    await turn()
    while (effects.length + acks.length + reads.length + answers.length + link.length > 0) {
      deliver()
      for (const steps of [effects, acks, reads, answers]) await steps.take()
    }
  }
  const position = () => memory.history('kept:x', { limit: 0 })
  return { hub, calls, effects, acks, reads, answers, publish, deliver, settle, failing, tops, link, listeners, missed, position }
}

function publicationOf (text: string, kind: Publication['kind'] = 'text'): Publication {
  return newPublication('other', { kind, payload: Buffer.from(text) })
}

/** Resolves when the subscription may be admitted. */
async function join (hub: Hub, connection: TestSubscriber, name: string, positioned: boolean, since?: Position): Promise<Subscription> {
  const subscription = new Subscription(connection, name, false)
  subscription.since = since
  subscription.joinLeave = connection.events
  connection.subscriptions.set(name, subscription)
  await hub.join(subscription, positioned)
  return subscription
}

/** Joins and admits. */
async function enter (hub: Hub, connection: TestSubscriber, name: string, settle: () => Promise<void>): Promise<void> {
  const joined = join(hub, connection, name, false)
  await settle()
  receive(connection, await joined)
}

/** As a protocol does it: what the subscriber starts with goes first. */
function receive (connection: TestSubscriber, subscription: Subscription) {
  const recovery = subscription.admit()
  for (const publication of [...recovery?.missed ?? [], ...recovery?.live ?? []]) connection.write(connection.encoder.publication('', publication))
  return recovery
}

t.test('the first one in subscribes, and everybody waits for it', async (t) => {
  const { hub, calls, effects, settle, publish } = await slowBroker(t)
  const [a, b, c] = [newConnection(), newConnection(), newConnection()]
  let joined = 0
  const joins = [a, b].map(async connection => {
    const joining = await join(hub, connection, 'x', false)
    joined++
    return receive(connection, joining)
  })
  await turn()
  t.equal(joined, 0)
  t.equal(effects.length, 1)
  t.equal(hub.subscriptions, 0)
  t.strictSame(calls, ['subscribe x'])
  await settle()
  t.strictSame(await Promise.all(joins), [a, b].map(() => ({ recovered: false, missed: [], live: [], offset: 0, epoch: '' })))
  await enter(hub, c, 'x', settle)
  t.strictSame(calls, ['subscribe x'], 'once for all')
  t.equal(hub.subscriptions, 3)
  t.equal(hub.channels, 1)
  await publish('x', 'hello')
  await settle()
  for (const connection of [a, b, c]) t.strictSame(connection.received, ['hello'])
})

t.test('the last one out leaves the broker a moment later, unless somebody comes back', async (t) => {
  const { hub, calls, settle } = await slowBroker(t)
  const [a, b] = [newConnection(), newConnection()]
  await enter(hub, a, 'x', settle)
  await enter(hub, b, 'x', settle)
  a.leave('x')
  hub.sweep(Date.now() + 60_000)
  t.strictSame(calls, ['subscribe x'], 'somebody is still there')
  b.leave('x')
  t.equal(hub.channels, 0)
  hub.sweep(Date.now())
  t.strictSame(calls, ['subscribe x'], 'not at once')
  await enter(hub, a, 'x', settle)
  hub.sweep(Date.now() + 60_000)
  t.strictSame(calls, ['subscribe x'], 'somebody came back')
  a.leave('x')
  hub.sweep(Date.now() + 60_000)
  t.strictSame(calls, ['subscribe x', 'unsubscribe x'])
  hub.sweep(Date.now() + 60_000)
  t.equal(calls.length, 2, 'once')
  await enter(hub, a, 'x', settle)
  t.strictSame(calls, ['subscribe x', 'unsubscribe x', 'subscribe x'])
  t.equal(hub.channels, 1)
})

t.test('a channel in which somebody is about to be is not left', async (t) => {
  const { hub, calls, settle, publish } = await slowBroker(t)
  const [a, b] = [newConnection(), newConnection()]
  await enter(hub, a, 'kept:x', settle)
  const joined = join(hub, b, 'kept:x', true)
  a.leave('kept:x')
  hub.sweep(Date.now() + 60_000)
  await settle()
  const joining = await joined
  hub.sweep(Date.now() + 60_000)
  t.strictSame(calls, ['subscribe kept:x'], 'it may wait long for its admission')
  await publish('kept:x', '1')
  await settle()
  receive(b, joining)
  t.strictSame([a.received, b.received], [[], ['1']])
})

t.test('a subscribe that failed does not stick', async (t) => {
  const { hub, calls, settle, publish, failing } = await slowBroker(t)
  const [a, b, c] = [newConnection(), newConnection(), newConnection()]
  failing.push(new Error('Redis is away'))
  const joins = [join(hub, a, 'x', false), join(hub, b, 'x', true, { offset: 0, epoch: '' })]
  const results = Promise.allSettled(joins)
  await settle()
  for (const result of await results) t.match(result, { status: 'rejected', reason: { message: 'Redis is away' } })
  t.equal(hub.channels, 0)
  t.equal(hub.subscriptions, 0)
  hub.sweep(Date.now() + 60_000)
  await enter(hub, c, 'x', settle)
  t.strictSame(calls, ['subscribe x', 'subscribe x'], 'the next one tries again')
  await publish('x', 'hello')
  await settle()
  t.strictSame([a.received, b.received, c.received], [[], [], ['hello']])
})

t.test('a subscribe that fails after its channel was left does not take the place of the next one', async (t) => {
  const { hub, calls, settle, failing } = await slowBroker(t)
  const [a, b, c] = [newConnection(), newConnection(), newConnection()]
  failing.push(new Error('Redis is slow'))
  const first = join(hub, a, 'x', false)
  a.leave('x')
  hub.sweep(Date.now() + 60_000)
  const second = join(hub, b, 'x', false)
  await Promise.all([t.rejects(first, { message: 'Redis is slow' }), settle()])
  receive(b, await second)
  t.equal(hub.channels, 1)
  await enter(hub, c, 'x', settle)
  t.strictSame(calls, ['subscribe x', 'unsubscribe x', 'subscribe x'], 'the third one joins the second')
  t.equal(hub.subscriptions, 2)
})

t.test('somebody who is not admitted after all is not in the channel', async (t) => {
  const { hub, calls, settle, publish } = await slowBroker(t)
  const [a, b] = [newConnection(), newConnection()]
  const joins = [join(hub, a, 'kept:x', false), join(hub, b, 'kept:x', true, { offset: 0, epoch: '' })]
  await settle()
  for (const joining of await Promise.all(joins)) joining.end()
  await publish('kept:x')
  await settle()
  t.equal(hub.subscriptions, 0)
  t.equal(hub.channels, 0)
  hub.sweep(Date.now() + 60_000)
  t.strictSame(calls, ['subscribe kept:x', 'unsubscribe kept:x'])
  t.strictSame([a.received, b.received], [[], []])
})

t.test('a publication that leaves a subscriber out is encoded once, and leaves with the others', async (t) => {
  const { hub, publish, deliver, settle } = await slowBroker(t)
  const encoder = new CountingEncoder()
  const [a, b, c] = [newConnection({ encoder }), newConnection({ encoder }), newConnection({ encoder })]
  for (const connection of [a, b, c]) await enter(hub, connection, 'x', settle)
  for (const [text, except] of [['1', a.id], ['2'], ['3', b.id], ['4', a.id], ['5', 'somebody']] as const) await publish('x', text, 'text', except)
  for (let i = 0; i < 5; i++) deliver()
  await settle()
  t.strictSame([a.received, b.received, c.received], [['2', '3', '5'], ['1', '2', '4', '5'], ['1', '2', '3', '4', '5']])
  t.equal(encoder.encoded, 5)
  t.strictSame([a, b, c].map(({ writes }) => writes), [1, 1, 1])

  // A message to it goes out in the middle of what waits.
  for (const [text, except] of [['6', a.id], ['7']] as const) await publish('x', text, 'text', except)
  for (let i = 0; i < 2; i++) deliver()
  a.flush()
  t.strictSame(a.received.slice(3), ['7'])
  for (const [text, except] of [['8', a.id], ['9']] as const) await publish('x', text, 'text', except)
  await settle()
  t.strictSame(a.received.slice(3), ['7', '9'])
  t.strictSame(c.received.slice(5), ['6', '7', '8', '9'])
  await publish('x', '10')
  await settle()
  for (const connection of [a, b, c]) t.equal(connection.received.at(-1), '10')
  t.equal(encoder.encoded, 10)
})

t.test('a subscriber is left out while it joins, with and without a position, and starts at the right one', async (t) => {
  const { hub, publish, settle, position } = await slowBroker(t)
  const [there, bare, top, since] = [newConnection(), newConnection(), newConnection(), newConnection()]
  await enter(hub, there, 'kept:x', settle)
  await publish('kept:x', '1')
  await settle()
  const { epoch } = await position()
  const joins = [join(hub, bare, 'kept:x', false), join(hub, top, 'kept:x', true), join(hub, since, 'kept:x', true, { offset: 1, epoch })]
  for (const { id } of [bare, top, since]) await publish('kept:x', `not for ${id}`, 'text', id)
  await settle()
  const recoveries = (await Promise.all(joins)).map((joining, i) => receive([bare, top, since][i]!, joining))
  const notFor = ({ id }: TestSubscriber) => [bare, top, since].filter(one => one.id !== id).map(one => `not for ${one.id}`)
  t.strictSame(bare.received, notFor(bare))
  t.strictSame(since.received, notFor(since))
  t.match(recoveries[2], { recovered: true, offset: 1 })
  t.equal(topOf(recoveries[2]!), 4, 'the last one was not for it, and is behind it')
  t.ok(top.received.every(text => notFor(top).includes(text)))
  await publish('kept:x', '5')
  await settle()
  for (const connection of [there, bare, top, since]) t.equal(connection.received.filter(text => text === '5').length, 1)
})

t.test('a subscriber that joins gets what is not kept in the order of the broker, and not what leaves it out', async (t) => {
  const { hub, publish, settle, position, reads, effects, acks, deliver } = await slowBroker(t)
  const [top, since] = [newConnection(), newConnection()]
  await publish('kept:x', '1')
  const { epoch } = await position()
  const joins = [join(hub, top, 'kept:x', true), join(hub, since, 'kept:x', true, { offset: 0, epoch })]
  for (const steps of [effects, acks]) {
    await turn()
    await steps.take()
  }
  const fleeting = (text: string, except?: string) => publish('kept:x', text, 'json', except)
  await publish('kept:x', '2')
  await fleeting('a')
  await publish('kept:x', '3')
  while (reads.length > 0) await reads.take()
  await fleeting('b')
  await fleeting('not for since', since.id)
  await publish('kept:x', '4')
  await fleeting('c')
  for (let i = 0; i < 7; i++) deliver()
  await settle()
  const [ofTop, ofSince] = await Promise.all(joins)
  t.match(receive(since, ofSince!), { recovered: true, missed: { length: 2 } })
  t.strictSame(since.received, ['1', '2', 'a', '3', 'b', '4', 'c'])
  receive(top, ofTop!)
  t.strictSame(top.received.filter(text => text > '9' || text === '4'), ['a', 'b', 'not for since', '4', 'c'])
  await publish('kept:x', '5')
  await settle()
  t.equal(since.received.at(-1), '5')
})

t.test('a slow subscriber of the latest value is not given one that leaves it out', async (t) => {
  const { hub, publish, settle } = await slowBroker(t)
  const [a, b] = [newConnection(), newConnection()]
  for (const connection of [a, b]) await enter(hub, connection, 'price:x', settle)
  a.congested = b.congested = true
  await publish('price:x', '1')
  await settle()
  await publish('price:x', '2', 'text', a.id)
  await settle()
  for (const connection of [a, b]) connection.drained()
  t.strictSame([a.received, b.received], [['1'], ['2']])
})

/** For the even numbers alone. */
class EvenEncoder extends CountingEncoder {
  override publication (channel: string, publication: Publication): Frame {
    return isEven(publication) ? super.publication(channel, publication) : undefined as never
  }
}
const isEven = ({ payload }: Publication) => Number(String(payload)) % 2 === 0

t.test('a slow subscriber of the latest value with a filter is given the latest that is for it', async (t) => {
  const { hub, publish, settle } = await slowBroker(t)
  const encoder = new EvenEncoder()
  const [even, fast, all] = [newConnection({ encoder }), newConnection({ encoder }), newConnection()]
  for (const connection of [even, fast, all]) {
    await enter(hub, connection, 'price:x', settle)
    if (connection !== all) connection.subscriptions.get('price:x')!.filter = isEven
  }
  even.congested = all.congested = true
  for (const texts of [['1'], ['2', '3'], ['4', '5'], ['7']]) {
    for (const text of texts) await publish('price:x', text)
    await settle()
  }
  t.strictSame([even.received, all.received], [[], []])
  even.congested = all.congested = false
  for (const connection of [even, all]) connection.drained()
  t.strictSame([even.received, fast.received, all.received], [['4'], ['2', '4'], ['7']])
  await publish('price:x', '8')
  await settle()
  t.strictSame([even.received, fast.received], [['4', '8'], ['2', '4', '8']])
  t.equal(encoder.encoded, 4, 'three for both, and the skipped one again')
})

t.test('where the last value counts everybody who joins gets it alone, unless it has it', async (t) => {
  const { hub, publish, settle, reads } = await slowBroker(t)
  const there = newConnection()
  await enter(hub, there, 'last:x', settle)
  for (const text of ['1', '2', '3']) await publish('last:x', text)
  await settle()
  const { epoch } = (await publish('last:x', '4')) as Position
  await settle()
  const positions = [undefined, { offset: 1, epoch }, { offset: 4, epoch }, { offset: 4, epoch: '' }, { offset: 9, epoch: 'other' }, { offset: 0, epoch: '' }]
  const come = async () => {
    const clients = positions.map(since => ({ since, connection: newConnection() }))
    const joins = clients.map(({ connection, since }) => join(hub, connection, 'last:x', true, since))
    return async () => (await Promise.all(joins)).map((joining, i) => {
      const { recovered, offset } = receive(clients[i]!.connection, joining)!
      return [clients[i]!.connection.received.join(), recovered, offset]
    })
  }
  const first = await come()
  await settle()
  t.strictSame(await first(), [['4', true, 3], ['4', true, 3], ['', true, 4], ['', true, 4], ['4', true, 3], ['4', true, 3]])

  // What is published meanwhile takes its place: also where one of them is left out, it is the value.
  const second = await come()
  await turn()
  t.equal(reads.length, 1, 'one read for all')
  await publish('last:x', '5')
  await publish('last:x', '6')
  await settle()
  t.strictSame(await second(), positions.map(() => ['6', true, 5]))
  await publish('last:x', '7')
  await settle()
  t.strictSame(there.received, ['1', '2', '3', '4', '5', '6', '7'])
})

t.test('where there is no last value nobody is told of one, and where it is too large neither', async (t) => {
  const { hub, publish, settle } = await slowBroker(t, 100)
  const ends = async (since?: Position) => {
    const joined = join(hub, newConnection(), 'last:x', true, since)
    await settle()
    return (await joined).admit()
  }
  const none = await ends()
  t.match(none, { recovered: false, missed: [], live: [], offset: 0 })
  t.match(await ends({ offset: 0, epoch: none!.epoch }), { recovered: true, missed: [], offset: 0 }, 'it has all')
  t.match(await ends({ offset: 0, epoch: '' }), { recovered: false, missed: [], offset: 0 })
  await publish('last:x', 'x'.repeat(200))
  t.match(await ends(), { recovered: false, missed: [], live: [], offset: 1 })
})

t.test('who comes back while a history is read shares the next read with all the others', async (t) => {
  const { hub, reads, publish, settle, tops } = await slowBroker(t)
  for (let i = 1; i <= HISTORY_SIZE; i++) await publish('kept:x')
  const { epoch } = (await publish('kept:x')) as Position
  await enter(hub, newConnection(), 'kept:x', settle)
  const since = [5, 3, 2, 6, undefined, 4].map(offset => offset === undefined ? undefined : { offset, epoch })
  const clients = [...since, { offset: 5, epoch: 'other' }].map(since => ({ since, connection: newConnection() }))
  const joins = clients.map(({ connection, since }) => join(hub, connection, 'kept:x', true, since))
  await turn()
  t.equal(reads.length, 1)
  await publish('kept:x', '7')
  await settle()
  t.strictSame(tops, [7, 7], 'two reads for all of them')
  const all = (await Promise.all(joins)).map((joining, i) => receive(clients[i]!.connection, joining))
  t.strictSame(all.map(recovery => recovery!.recovered), [true, true, true, true, false, true, false])
  t.strictSame(clients.map(({ connection }) => connection.received.join()), ['6,7', '4,5,6,7', '3,4,5,6,7', '7', '', '5,6,7', ''])
  await publish('kept:x', '8')
  await settle()
  for (const { connection } of clients) t.equal(connection.received.at(-1), '8')
})

t.test('a history that can not be read leaves nobody behind', async (t) => {
  const redis = await startRedis(t)
  const prefix = randomPrefix()
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: prefix, heartbeat: { interval: '10s', timeout: 50 }, channels: { kept: { history: { size: 5, ttl: '1m' } } } })
  await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections
  const { epoch } = await app.realtime.publish('kept:x', 1)
  await connection!.subscribe('kept:x')
  await connection!.unsubscribe('kept:x')
  await command(redis.port, ['SET', `${prefix}:stream:{kept:x}`, 'no stream'])
  await t.rejects(connection!.subscribe('kept:x', { since: { offset: 0, epoch: epoch! } }), { code: 'FST_CRWS_REDIS_REFUSED' })
  t.strictSame([...connection!.channels], [])
  t.equal((await app.realtime.info())[0]!.channels, 0)
})

t.test('a subscribe that failed while Redis was down can be repeated', async (t) => {
  const redis = await startRedis(t)
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix() })
  const client = await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections
  await redis.kill()
  await t.rejects(connection!.subscribe('room'), { code: /^FST_CRWS_REDIS_/ })
  t.strictSame([...connection!.channels], [])
  await redis.restart()
  await until(() => connection!.subscribe('room').then(() => true), 'Redis is back', 30_000)
  t.strictSame([...connection!.channels], ['room'])
  await until(() => app.realtime.publish('room', 'hello').then(() => true), 'publishing is back, too', 30_000)
  t.equal(await client.next(), 'hello')
})

t.test('who can not be announced is not in the channel', async (t) => {
  const redis = await startRedis(t)
  const prefix = randomPrefix()
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: prefix, channels: { room: { presence: true } } })
  const client = await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections
  const key = `${prefix}:members:{room:x}`
  await command(redis.port, ['SET', key, 'no hash'])
  await t.rejects(connection!.subscribe('room:x'), { code: 'FST_CRWS_REDIS_REFUSED' })
  t.strictSame([...connection!.channels], [])
  await app.realtime.publish('room:x', 'unheard')
  await command(redis.port, ['DEL', key])
  await connection!.subscribe('room:x')
  await app.realtime.publish('room:x', 'heard')
  t.equal(await client.next(), 'heard')
  t.equal((await app.realtime.presence('room:x')).length, 1)
})

t.test('nobody hears from a channel that has nobody', async (t) => {
  const { hub, settle, listeners } = await slowBroker(t)
  const a = newConnection()
  await enter(hub, a, 'x', settle)
  a.leave('x')
  listeners.get('x')!.positionLost()
  listeners.get('x')!.deliver(publicationOf('x'))
  await turn()
  t.strictSame([a.received, a.positionsLost], [[], []])
})

t.test('only those who want it are told who comes and goes, and nobody before it is in', async (t) => {
  const { hub, settle, publish } = await slowBroker(t)
  const [a, b, c] = [newConnection({ events: true }), newConnection(), newConnection({ events: true })]
  await enter(hub, a, 'kept:x', settle)
  await enter(hub, b, 'kept:x', settle)
  const joined = join(hub, c, 'kept:x', true)
  await publish('kept:x', 'c comes', 'join')
  await settle()
  receive(c, await joined)
  await publish('kept:x', 'c goes', 'leave')
  await settle()
  t.strictSame([a.received, b.received, c.received], [['c comes', 'c goes'], [], ['c goes']])
})

t.test('everybody in a channel is told when its positions mean nothing any more', async (t) => {
  const { hub, settle, listeners } = await slowBroker(t)
  const [a, b, c] = [newConnection(), newConnection(), newConnection()]
  await enter(hub, a, 'kept:x', settle)
  await enter(hub, b, 'kept:x', settle)
  await enter(hub, c, 'kept:y', settle)
  listeners.get('kept:x')!.positionLost()
  t.strictSame([a.positionsLost, b.positionsLost, c.positionsLost], [['kept:x'], ['kept:x'], []])
})

t.test('a gap is reported with the name of its channel', async (t) => {
  const { hub, settle, listeners, missed } = await slowBroker(t)
  await enter(hub, newConnection(), 'kept:x', settle)
  listeners.get('kept:x')!.missed(3, 'Redis is new')
  t.strictSame(missed, [['kept:x', 3, 'Redis is new']])
})

t.test('what is not kept comes after what is, and is not missed', async (t) => {
  const { hub, settle, publish, listeners } = await slowBroker(t)
  const a = newConnection()
  await publish('kept:x', '1')
  const joined = join(hub, a, 'kept:x', true, { offset: 0, epoch: '' })
  await settle()
  listeners.get('kept:x')!.deliver(publicationOf('fleeting'))
  const recovery = receive(a, await joined)
  t.match(recovery, { recovered: true, offset: 0 })
  listeners.get('kept:x')!.deliver(publicationOf('fleeting too'))
  await turn()
  t.strictSame(a.received, ['1', 'fleeting', 'fleeting too'])
})

t.test('what is published within the batch delay leaves in one write, in order with what is sent to one connection meanwhile', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const [a, b, late, gone] = [newConnection(), newConnection(), newConnection(), newConnection()]
  for (const connection of [a, b, gone]) await enter(hub, connection, 'slowly:x', settle)
  const arrives = async (text: string) => {
    await publish('slowly:x', text)
    deliver()
  }
  await arrives('1')
  await turn()
  await turn()
  t.strictSame(b.received, [], 'not at the end of the turn')
  a.flush()
  a.write({ payload: Buffer.from('sent'), binary: false })
  await arrives('2')
  gone.leave('slowly:x')
  await enter(hub, late, 'slowly:x', settle)
  await arrives('3')
  await until(() => b.received.length === 3, 'the delay is over', 30_000)
  t.strictSame([a.received, b.received, late.received, gone.received], [['1', 'sent', '2', '3'], ['1', '2', '3'], ['3'], ['1', '2']])
  t.strictSame([a.writes, b.writes, late.writes, gone.writes], [2, 1, 1, 1])
  await arrives('4')
  await until(() => b.received.length === 4, 'and again', 30_000)
  t.strictSame([a.received.at(-1), late.received, b.writes], ['4', ['3', '4'], 2])
})

t.test('who is in several channels gets what arrives there in one turn in one write', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const [both, x, y, elsewhere] = [newConnection(), newConnection(), newConnection(), newConnection()]
  const members: Array<[TestSubscriber, string[]]> = [[both, ['x', 'y', 'z']], [x, ['x']], [y, ['y']], [elsewhere, ['y', 'z']]]
  for (const [connection, names] of members) for (const name of names) await enter(hub, connection, name, settle)
  for (const [name, text] of [['x', '1'], ['y', '2'], ['x', '3']] as const) {
    await publish(name, text)
    deliver()
  }
  await turn()
  t.strictSame([both, x, y, elsewhere].map(({ received }) => received), [['1', '3', '2'], ['1', '3'], ['2'], ['2']], 'in order within each channel')
  t.strictSame([both, x, y, elsewhere].map(({ writes }) => writes), [1, 1, 1, 1])
})

t.test('what is published while a flush is under way leaves with the next one', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const a = newConnection()
  await enter(hub, a, 'x', settle)
  await publish('x', '1')
  await publish('x', '2')
  const { writeBatch } = a.outbox
  a.outbox.writeBatch = batch => {
    writeBatch(batch)
    deliver() // a log entry of what is sent may itself be published
  }
  deliver()
  await turn()
  t.strictSame(a.received, ['1'], 'the event loop goes on between the two')
  await until(() => a.received.length === 2, 'the next flush')
  t.strictSame(a.received, ['1', '2'])
})

t.test('a channel that can not be sent keeps no other one from its clients', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const [unable, a, b] = [newConnection(), newConnection(), newConnection()]
  for (const [connection, names] of [[unable, ['x']], [a, ['y', 'z']], [b, ['z']]] as const) for (const name of names) await enter(hub, connection, name, settle)
  unable.outbox.writeBatch = () => { throw new Error('a logger of the host that throws') }
  const thrown: Error[] = []
  process.setUncaughtExceptionCaptureCallback(error => { thrown.push(error) })
  t.teardown(() => process.setUncaughtExceptionCaptureCallback(null))
  for (const [name, text] of [['x', '1'], ['y', '2'], ['z', '3']] as const) {
    await publish(name, text)
    deliver()
  }
  await until(() => a.received.length === 2, 'what is left of the flush')
  t.match(thrown, [{ message: 'a logger of the host that throws' }], 'the process hears of it, once')
  t.strictSame([a.received, b.received], [['2', '3'], ['3']])
  await publish('x', '4')
  deliver()
  await until(() => thrown.length === 2, 'the channel itself goes on')
})

t.test('what is too large for one write does not wait for more', async (t) => {
  const { hub, publish, deliver, settle } = await slowBroker(t, 40)
  const connection = newConnection()
  await enter(hub, connection, 'slowly:x', settle)
  for (const text of ['1234567890', '123456789', 'x', 'later']) {
    publish('slowly:x', text)
    deliver()
  }
  t.strictSame(connection.received, ['1234567890', '123456789', 'x'], 'a quarter of what a client may owe')
  t.equal(connection.writes, 1)
  connection.flush()
  t.strictSame(connection.received, ['1234567890', '123456789', 'x', 'later'])
})

t.test('joins and leaves wait for no batch delay, and do not overtake', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const a = newConnection({ events: true })
  await enter(hub, a, 'soon:x', settle)
  for (const [text, kind] of [['1', 'text'], ['b comes', 'join'], ['2', 'text']] as const) {
    await publish('soon:x', text, kind)
    deliver()
  }
  t.strictSame(a.received, ['1', 'b comes'])
  await until(() => a.received.length === 3, 'the delay is over')
  t.strictSame(a.received, ['1', 'b comes', '2'])
})

t.test('what many connections have to get ahead of the batch is encoded once', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const one = newConnection()
  const { encoder } = one
  const others = Array.from({ length: 20 }, () => newConnection({ encoder }))
  for (const connection of [one, ...others]) await enter(hub, connection, 'slowly:x', settle)
  const before = encoder.encoded
  for (const text of ['1', '2']) {
    await publish('slowly:x', text)
    deliver()
  }
  for (const connection of [one, ...others]) connection.flush()
  t.equal(encoder.encoded - before, 2)
  t.strictSame(one.received, ['1', '2'])
  t.strictSame(others[0]!.received, ['1', '2'])
  for (const [i, connection] of others.entries()) { // each at another moment, with something else before it
    await publish('slowly:x', String(i + 3))
    deliver()
    connection.flush()
  }
  const all = Array.from({ length: others.length + 2 }, (_, i) => String(i + 1))
  await until(() => others.every(({ received }) => received.length === all.length), 'the delay is over', 30_000)
  t.equal(encoder.encoded - before, all.length, 'what is left, too')
  for (const { received } of [one, ...others]) t.strictSame(received, all)
})

t.test('a channel accepts more while no subscriber has more than half of its limit outstanding', async (t) => {
  const { hub, settle, publish, deliver, listeners } = await slowBroker(t, 1_000)
  const [one, other] = [newConnection(), newConnection()]
  for (const connection of [one, other]) await enter(hub, connection, 'x', settle)
  const channel = listeners.get('x')!
  t.equal(channel.canAccept(), true)
  other.outbox.bufferedBytes = 1_001
  t.equal(channel.canAccept(), false)
  await publish('x', '1')
  deliver()
  t.equal(channel.canAccept(), true, 'the batch that has begun is filled first')
  await turn()
  t.equal(channel.canAccept(), false)
  other.open = false
  t.equal(channel.canAccept(), true, 'a connection that is closing gets no more')
})

t.test('where only the last value matters, a connection that owes something gets that when it has taken it', async (t) => {
  const { hub, settle, publish, deliver } = await slowBroker(t)
  const [slow, fast] = [newConnection(), newConnection()]
  for (const connection of [slow, fast]) await enter(hub, connection, 'price:x', settle)
  const arrive = async (...texts: string[]) => {
    for (const text of texts) {
      await publish('price:x', text)
      deliver()
    }
    await turn()
  }
  await arrive('1')
  slow.congested = true
  await arrive('2', '3')
  await arrive('4')
  slow.flush()
  t.strictSame([slow.received, fast.received], [['1'], ['1', '2', '3', '4']])
  slow.congested = false
  slow.drained()
  slow.drained()
  t.strictSame(slow.received, ['1', '4'])
  t.equal(hub.skipped, 2)
  slow.congested = true
  await arrive('5')
  slow.congested = false
  await arrive('6')
  slow.drained()
  t.strictSame(slow.received, ['1', '4', '6'], 'the next one has come before it was told')
  t.equal(hub.skipped, 3)
  slow.congested = fast.congested = true
  await arrive('7')
  slow.leave('price:x')
  fast.open = false
  fast.leave('price:x')
  t.strictSame([slow.received.at(-1), fast.received.at(-1)], ['7', '6'], 'who leaves gets it, who is gone does not')
})

t.test('a position of another epoch, or one too far back, is not recovered', async (t) => {
  const { hub, settle, publish } = await slowBroker(t)
  for (let i = 1; i <= 7; i++) await publish('kept:x')
  const { epoch } = (await publish('kept:x')) as Position
  const since: Array<[Position, boolean]> = [
    [{ offset: 3, epoch }, true], [{ offset: 2, epoch }, false], [{ offset: 7, epoch: 'other' }, false],
    [{ offset: 8, epoch }, true], [{ offset: 9, epoch }, false], [{ offset: 7, epoch: '' }, true]
  ]
  for (const [position, recovered] of since) {
    const a = newConnection()
    const joined = join(hub, a, 'kept:x', true, position)
    await settle()
    t.match(receive(a, await joined), { recovered, offset: recovered ? position.offset : 8, epoch }, JSON.stringify(position))
    t.strictSame(a.received, recovered ? range(position.offset + 1, 8).map(String) : [])
  }
})

t.test('more than a client can take is not recovered', async (t) => {
  const { hub, settle, publish } = await slowBroker(t, 1_000)
  for (const [size, recovered] of [[100, true], [600, false]] as const) {
    const since = (await publish('kept:x', 'x')) as Position
    await publish('kept:x', 'a'.repeat(size))
    await publish('kept:x', 'b'.repeat(size))
    const a = newConnection()
    const joined = join(hub, a, 'kept:x', true, since)
    await settle()
    t.match(receive(a, await joined), { recovered, missed: recovered ? [{}, {}] : [] }, `${size} bytes`)
    t.equal(a.received.length, recovered ? 2 : 0)
  }
})

/**
 * Every order in which the steps of these lists can be taken, each list in its own order. `allowed` looks at what was
 * taken so far.
 */
function * orders (lists: string[][], allowed: (taken: string[]) => boolean, taken: string[] = []): Generator<string[]> {
  if (lists.every(list => list.length === 0)) yield taken
  for (const [i, [next, ...rest]] of lists.entries()) {
    if (next !== undefined && allowed([...taken, next])) yield * orders(lists.with(i, rest), allowed, [...taken, next])
  }
}

t.test('in whichever order publications, the subscribe, the history and the admission come, nothing is missed and nothing comes twice', async (t) => {
  const count = (taken: string[], step: string) => taken.filter(one => one === step).length
  const all = Array.from(orders(
    [['effect', 'ack', 'read', 'answer', 'admit'], ['publish', 'publish'], ['deliver', 'deliver']],
    taken => count(taken, 'deliver') <= count(taken, 'publish')
  ))
  t.equal(all.length, 252)
  const failures: string[] = []
  for (const position of ['none', 'top', 'before'] as const) {
    for (const order of all) {
      const { hub, effects, acks, reads, answers, publish, deliver, settle } = await slowBroker(t)
      await publish('kept:x')
      const top = (await publish('kept:x')) as Position
      const since = { none: undefined, top, before: { ...top, offset: 1 } }[position]
      const a = newConnection()
      const joined = join(hub, a, 'kept:x', true, since)
      let recovery: ReturnType<typeof receive>
      const steps: Record<string, () => unknown> = {
        effect: () => effects.take(),
        ack: () => acks.take(),
        read: () => reads.take(),
        answer: () => answers.take(),
        publish: () => publish('kept:x'),
        deliver,
        admit: async () => { recovery = receive(a, await joined) }
      }
      for (const step of order) await steps[step]!()
      await publish('kept:x')
      await settle()
      const from = since?.offset ?? recovery?.offset ?? NaN
      const right = String(a.received) === String(range(from + 1, 5)) && recovery!.recovered === (since !== undefined)
      if (!right) failures.push(`${position} ${order.join(' ')}: ${a.received.join()} ${JSON.stringify(recovery)}`)
    }
  }
  t.strictSame(failures.slice(0, 3), [])
})

/** mulberry32: small, and the same everywhere. */
function random (seed: number): () => number {
  return () => {
    seed = seed + 0x6D2B79F5 | 0
    let x = Math.imul(seed ^ seed >>> 15, 1 | seed)
    x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x
    return ((x ^ x >>> 14) >>> 0) / 2 ** 32
  }
}

t.test('the same for clients that come and go at random, with positions of every kind: recovered exactly when it can be', async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.comment(`SEED=${seed}`)
  const next = random(seed)
  const below = (n: number) => Math.floor(next() * n)
  let recovered = 0
  let unrecovered = 0
  let ahead = 0
  for (let run = 0; run < 300; run++) {
    const { hub, effects, acks, reads, answers, publish, deliver, settle, tops, link, position } = await slowBroker(t)
    const { epoch } = await position0(position, settle)
    interface Client {
      connection: ReturnType<typeof newConnection>
      since: Position | undefined
      joining?: Subscription
      reads: number
      from?: number
      gone?: boolean
      aborted?: boolean
    }
    const clients: Client[] = []
    let top = 0
    const check = ({ connection, from, gone }: Client, seen: number) => {
      if (from === undefined) return
      const expected = range(from + 1, from + connection.received.length).join()
      if (connection.received.join() !== expected) t.fail(`run ${run}: from ${from} it got ${connection.received}`)
      if (!gone && from + connection.received.length !== seen) t.fail(`run ${run}: from ${from} it got ${connection.received}, up to ${seen} were published`)
    }
    const admit = (client: Client) => {
      const recovery = receive(client.connection, client.joining!)
      delete client.joining
      const { since } = client
      if (recovery === undefined) return t.fail(`run ${run}: there is no hole`)
      client.from = recovery.offset
      const read = client.reads
      const can = since !== undefined && (since.epoch === '' || since.epoch === epoch) && since.offset <= read && read - since.offset <= HISTORY_SIZE
      if (recovery.recovered !== can) t.fail(`run ${run}: since ${JSON.stringify(since)} of ${read}: recovered ${recovery.recovered}`)
      if (recovery.recovered) recovered++
      else if (since !== undefined) unrecovered++
      if (link.some(([, { offset }]) => offset <= recovery.offset + recovery.missed.length)) ahead++
    }
    for (let i = 0; i < 120; i++) {
      const step = below(12)
      if (step === 0) {
        await publish('kept:x', String(++top))
      } else if (step < 3) {
        deliver()
      } else if (step === 3) {
        await [effects, acks][below(2)]!.take()
      } else if (step < 7) {
        await [reads, answers][below(2)]!.take()
      } else if (step < 9) {
        const kind = below(5)
        const offset = Math.max(0, top - below(HISTORY_SIZE + 3))
        const since = kind === 0 ? undefined : { offset: kind === 1 ? top + 1 : offset, epoch: kind === 2 ? 'other' : kind === 3 ? '' : epoch }
        const client: Client = { connection: newConnection(), since, reads: -1 }
        clients.push(client)
        join(hub, client.connection, 'kept:x', true, since).then(joining => {
          client.joining = joining
          client.reads = tops.at(-1) ?? NaN // it was answered right before
        })
      } else if (step < 11) {
        const ready = clients.filter(({ joining }) => joining !== undefined)
        if (ready.length > 0) admit(ready[below(ready.length)]!)
      } else {
        const client = clients[below(clients.length)]
        if (client?.joining !== undefined) {
          client.joining.end()
          delete client.joining
        } else if (client?.from !== undefined && !client.gone) {
          client.connection.leave('kept:x')
          client.gone = true
        }
        hub.sweep(Date.now() + 60_000)
      }
    }
    await settle()
    for (const client of clients) if (client.joining !== undefined) admit(client)
    await publish('kept:x', String(++top))
    await settle()
    for (const client of clients) check(client, top)
  }
  t.ok(recovered > 300 && unrecovered > 300 && ahead > 20, `${recovered} recovered, ${unrecovered} not, ${ahead} began ahead of what was delivered`)
})

/** The epoch of a channel before anything was published there. */
async function position0 (position: () => Promise<History>, settle: () => Promise<void>): Promise<History> {
  const read = position()
  await settle()
  return read
}

t.test('on Redis a channel is subscribed while somebody is in it', async (t) => {
  const redis = await startRedis(t)
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), heartbeat: { interval: '10s', timeout: 50 } })
  const client = await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections
  const subscribed = async () => (await command(redis.port, ['PUBSUB', 'CHANNELS', '*pub:{news}*'])) !== ''
  t.equal(await subscribed(), false)
  await connection!.subscribe('news')
  t.equal(await subscribed(), true)
  client.socket.terminate()
  await until(async () => !await subscribed(), 'the channel is left')
})

t.test('what the history does not keep moves no position, and is for a joining subscriber as for all others', async (t) => {
  const { hub, settle, position, listeners, publish } = await slowBroker(t)
  const [there, top, since, last, own] = [newConnection(), newConnection(), newConnection(), newConnection(), newConnection()]
  for (const channel of ['kept:x', 'last:x']) await enter(hub, there, channel, settle)
  await publish('kept:x', '1')
  await settle()
  const { epoch } = await position()
  const joins = [join(hub, top, 'kept:x', true), join(hub, since, 'kept:x', true, { offset: 1, epoch }), join(hub, last, 'last:x', true), join(hub, own, 'last:x', true)]
  await turn()
  for (const channel of ['kept:x', 'last:x']) listeners.get(channel)!.deliver({ ...publicationOf('live only'), except: own.id })
  await settle()
  const recoveries = (await Promise.all(joins)).map((joining, i) => receive([top, since, last, own][i]!, joining)!)
  t.strictSame(recoveries.map(topOf), [1, 1, 0, 0])
  t.strictSame([top, since, last, own].map(({ received }) => received), [['live only'], ['live only'], ['live only'], []])
})
