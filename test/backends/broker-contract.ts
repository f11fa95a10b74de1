import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { createBackend } from '../../lib/backends/backend.ts'
import type { Backend } from '../../lib/backends/backend.ts'
import type { Broker, BrokerListener, HistoryQuery, HistorySettings, PublishSettings } from '../../lib/model/broker.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { decodePayload, encodePayload } from '../../lib/model/publication.ts'
import type { Position, Publication } from '../../lib/model/publication.ts'
import type { RedisOption } from '../../lib/options/redis-source.ts'
import { until } from '../helpers/until.ts'

export interface Missed { channel: string, count: number, why: string }

/** A broker as an instance has it, which writes down everything it is told. */
export class Node implements BrokerListener {
  readonly backend: Backend
  readonly id: string = randomBytes(4).toString('hex')
  readonly missedBefore: Missed[] = []
  readonly positionsLost: string[] = []
  readonly states: Array<{ up: boolean, reason: string }> = []
  readonly reasons: string[] = []
  readonly #publications = new Map<string, Publication[]>()

  constructor (backend: Backend) {
    this.backend = backend
  }

  get broker () { return this.backend.broker }

  subscribe (channel: string, history: boolean): Promise<void> {
    return this.broker.subscribe(channel, history, {
      deliver: publication => { this.publications(channel).push(publication) },
      canAccept: () => this.canAccept(channel),
      missed: (count, why) => { this.missedBefore.push({ channel, count, why }) },
      positionLost: () => { this.positionsLost.push(channel) }
    })
  }

  /** A test may say no. */
  canAccept: (channel: string) => boolean = () => true

  stateChanged (up: boolean, reason: string): void { this.states.push({ up, reason }) }
  stillDown (reason: string): void { this.reasons.push(reason) }
  missed (channel: string, count: number, why: string): void { this.missedBefore.push({ channel, count, why }) }

  publications (channel: string): Publication[] {
    let publications = this.#publications.get(channel)
    if (publications === undefined) this.#publications.set(channel, publications = [])
    return publications
  }

  /** What the subscribers of the channel got. */
  data (channel: string): unknown[] { return this.publications(channel).map(decodePayload) }

  /** How many were reported as lost. */
  missedIn (channel: string): number {
    return this.missedBefore.reduce((sum, missed) => missed.channel === channel ? sum + missed.count : sum, 0)
  }

  publish (
    channel: string, data: unknown, settings: Partial<PublishSettings> & Pick<Publication, 'tags' | 'except'> = {}
  ): Promise<Partial<Position>> {
    const { history, idempotencyKey, tags, except } = settings
    return this.broker.publish(channel, {
      ...encodePayload(data), time: Date.now(), instance: this.id, sequence: 0, offset: 0, epoch: '', ...(tags !== undefined && { tags }), ...(except !== undefined && { except })
    }, { history, idempotencyKey })
  }

  async arrived (channel: string, count: number): Promise<void> {
    await until(() => this.publications(channel).length >= count, `${count} publications in ${channel}`, 30_000)
  }

  /** The other way round than `up`, which may still be true when the link is gone. */
  async up (): Promise<void> { await until(() => this.broker.up, 'the broker is up', 60_000) }
  async down (): Promise<void> { await until(() => !this.broker.up, 'the broker is down', 30_000) }
}

/** `broker`: used instead of the one that an app would have. */
export function newNode (redis: RedisOption | false | undefined, prefix: string, broker?: Broker, env: NodeJS.ProcessEnv = {}): Node {
  const backend = createBackend(resolveOptions({ redis, keyPrefix: prefix }, env))
  return new Node(broker === undefined ? backend : { ...backend, broker })
}

export async function startNode (t: Test, ...args: Parameters<typeof newNode>): Promise<Node> {
  const node = newNode(...args)
  t.teardown(() => node.broker.close())
  await node.broker.start(node)
  return node
}

export const history: HistorySettings = { size: 100, ttl: 60_000 }

/** Two instances that hear each other; in memory they are one. */
export type StartPair = (t: Test) => Promise<[Node, Node]>

export function range (from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}

/** What every broker must do. */
export function testBroker (t: Test, startPair: StartPair): void {
  t.test('in a channel with history publications have consecutive offsets in one epoch, and arrive in that order', async (t) => {
    const [a, b] = await startPair(t)
    await a.subscribe('room', true)
    const positions = []
    for (const i of range(1, 10)) positions.push(await b.publish('room', i, { history }))
    const epoch = positions[0]!.epoch!
    t.match(epoch, /^[\w-]{8}$/)
    t.strictSame(positions, range(1, 10).map(offset => ({ offset, epoch })))
    await a.arrived('room', 10)
    t.strictSame(a.data('room'), range(1, 10))
    t.strictSame(a.publications('room').map(({ offset, epoch }) => ({ offset, epoch })), positions)
    t.strictSame(a.missedBefore, [])
  })

  t.test('who is left out travels with a publication, and is kept with it', async (t) => {
    const [a, b] = await startPair(t)
    await Promise.all([a.subscribe('room', true), a.subscribe('bare', false)])
    const all: Array<[data: string, settings: Pick<Publication, 'tags' | 'except'> & { idempotencyKey?: string }]> = [
      ['1', { except: 'a' }], ['2', { except: 'b', tags: { c: 'd' } }], ['3', { except: 'c', idempotencyKey: 'key' }], ['4', {}]
    ]
    for (const [data, settings] of all) {
      await b.publish('room', data, { history, ...settings })
      await b.publish('bare', data, settings)
    }
    await Promise.all([a.arrived('room', 4), a.arrived('bare', 4)])
    const { publications } = await a.broker.history('room', { limit: 10 })
    for (const got of [a.publications('room'), a.publications('bare'), publications]) {
      t.strictSame(got.map(({ except, tags }) => [except, tags]), [['a', undefined], ['b', { c: 'd' }], ['c', undefined], [undefined, undefined]])
    }
  })

  t.test('in a channel without history publications have no position, arrive in order and are not kept', async (t) => {
    const [a, b] = await startPair(t)
    await a.subscribe('room', false)
    for (const i of range(1, 10)) t.strictSame(await b.publish('room', i), {})
    await a.arrived('room', 10)
    t.strictSame(a.data('room'), range(1, 10))
    t.strictSame(a.publications('room').map(({ offset, epoch }) => ({ offset, epoch })), Array(10).fill({ offset: 0, epoch: '' }))
    t.match(await a.broker.history('room', { limit: 10 }), { publications: [], offset: 0 })
    t.strictSame(a.missedBefore, [])
  })

  t.test('a subscriber gets what is published from now on, and nothing from before', async (t) => {
    const [a, b] = await startPair(t)
    await b.publish('room', 'before', { history })
    await a.subscribe('room', true)
    await b.publish('room', 'after', { history })
    await a.arrived('room', 1)
    t.strictSame(a.data('room'), ['after'])
    t.strictSame(a.missedBefore, [])
  })

  t.test('what another instance publishes right after a subscribe has resolved is delivered', async (t) => {
    const [a, b] = await startPair(t)
    const channels = range(1, 40).map(i => `room-${i}`)
    const warnings: Error[] = []
    const onWarning = (warning: Error) => { warnings.push(warning) }
    process.on('warning', onWarning)
    t.teardown(() => process.off('warning', onWarning))
    await Promise.all(channels.map(async (channel, i) => {
      const withHistory = i % 2 === 0
      await a.subscribe(channel, withHistory)
      await b.publish(channel, 'now', withHistory ? { history } : {})
    }))
    for (const channel of channels) await a.arrived(channel, 1)
    t.strictSame(channels.map(channel => a.data(channel)), channels.map(() => ['now']))
    t.strictSame(warnings, [], 'however many subscribe at once')
  })

  t.test('nothing arrives after an unsubscribe, and everything again after the next subscribe', async (t) => {
    const [a, b] = await startPair(t)
    for (const withHistory of [true, false]) {
      const channel = `room-${withHistory}`
      const settings = withHistory ? { history } : {}
      await a.subscribe(channel, withHistory)
      await b.publish(channel, 1, settings)
      await a.arrived(channel, 1)
      a.broker.unsubscribe(channel)
      // What follows on the same link is answered after it; with so many, every node of a cluster gets some.
      await Promise.all(range(1, 40).map(i => a.subscribe(`${channel}-neighbour-${i}`, false)))
      await b.publish(channel, 2, settings)
      await a.subscribe(channel, withHistory)
      await b.publish(channel, 3, settings)
      await a.arrived(channel, 2)
      t.strictSame(a.data(channel), [1, 3])

      // Left and entered again in one turn: the last word counts.
      a.broker.unsubscribe(channel)
      await a.subscribe(channel, withHistory)
      await b.publish(channel, 4, settings)
      await a.arrived(channel, 3)
      t.strictSame(a.data(channel), [1, 3, 4])
    }
    t.strictSame(a.missedBefore, [])
  })

  t.test('the history holds the newest publications up to its size', async (t) => {
    const [a, b] = await startPair(t)
    for (const i of range(1, 8)) await b.publish('room', i, { history: { size: 3, ttl: 60_000 } })
    const { publications, offset } = await a.broker.history('room', { limit: 10 })
    t.strictSame(publications.map(decodePayload), [6, 7, 8])
    t.strictSame(publications.map(({ offset }) => offset), [6, 7, 8])
    t.equal(offset, 8)
  })

  t.test('the history expires some time after the last publication, while offsets and epoch go on', async (t) => {
    const [a, b] = await startPair(t)
    const short = { size: 10, ttl: 100 }
    const { epoch } = await b.publish('room', 1, { history: short })
    await until(async () => (await a.broker.history('room', { limit: 10 })).publications.length === 0, 'the history is gone')
    t.strictSame(await a.broker.history('room', { limit: 10 }), { publications: [], offset: 1, epoch })
    t.strictSame(await b.publish('room', 2, { history }), { offset: 2, epoch })
    const { publications } = await a.broker.history('room', { limit: 10 })
    t.strictSame(publications.map(decodePayload), [2])
  })

  t.test('a history can be read in parts, from a position and backwards', async (t) => {
    const [a, b] = await startPair(t)
    for (const i of range(1, 10)) await b.publish('room', i, { history })
    const { epoch } = await a.broker.history('room', { limit: 0 })
    const read = async (query: Parameters<typeof a.broker.history>[1]) => {
      const history = await a.broker.history('room', query)
      t.equal(history.offset, 10)
      t.equal(history.epoch, epoch)
      t.strictSame(history.publications.map(decodePayload), history.publications.map(({ offset }) => offset))
      t.ok(history.publications.every(publication => publication.epoch === epoch))
      return history.publications.map(({ offset }) => offset)
    }
    const everything = Number.MAX_SAFE_INTEGER
    t.strictSame(await read({ limit: 0 }), [])
    t.strictSame(await read({ limit: everything }), range(1, 10))
    t.strictSame(await read({ limit: 3 }), [1, 2, 3])
    t.strictSame(await read({ limit: 3, reverse: true }), [10, 9, 8])
    t.strictSame(await read({ limit: everything, since: { offset: 7, epoch } }), [8, 9, 10])
    t.strictSame(await read({ limit: 2, since: { offset: 4, epoch } }), [5, 6])
    t.strictSame(await read({ limit: 2, since: { offset: 4, epoch }, reverse: true }), [3, 2])
    t.strictSame(await read({ limit: everything, since: { offset: 4, epoch: '' } }), range(5, 10), 'an empty epoch is any')
    t.strictSame(await read({ limit: everything, since: { offset: 0, epoch } }), range(1, 10))
    t.strictSame(await read({ limit: everything, since: { offset: 10, epoch } }), [])
    t.strictSame(await read({ limit: everything, since: { offset: 99, epoch } }), [])
    t.strictSame(await read({ limit: everything, since: { offset: 1, epoch }, reverse: true }), [])
    t.strictSame(await read({ limit: everything, since: { offset: 0, epoch }, reverse: true }), [])
  })

  t.test('a read is limited by bytes, and has one publication all the same', async (t) => {
    const [a] = await startPair(t)
    for (const i of range(1, 40)) await a.publish('room', `${i}`.padStart(2, '0').repeat(500), { history })
    const read = async (query: Partial<HistoryQuery>) => {
      const { publications, offset } = await a.broker.history('room', { limit: 100, ...query })
      t.equal(offset, 40)
      return publications.map(({ offset }) => offset)
    }
    const first = await read({ maxBytes: 20_000 })
    t.strictSame(first, range(1, first.length))
    t.ok(first.length >= 18 && first.length <= 20, `${first.length} of 1,000 bytes each, and what is stored with them`)
    t.strictSame(await read({ maxBytes: 1 }), [1])
    t.strictSame(await read({ maxBytes: 1_000_000 }), range(1, 40))
    t.strictSame(await read({ maxBytes: 1_000_000, limit: 17 }), range(1, 17))
    t.strictSame(await read({ reverse: true, until: 30, maxBytes: 1_000_000 }), range(31, 40).reverse())
    t.strictSame(await read({ reverse: true, until: 30, maxBytes: 3_500 }), [40, 39, 38])
    t.strictSame(await read({ reverse: true, maxBytes: 1_000_000 }), range(1, 40).reverse())
  })

  t.test('a position of another epoch is refused with a coded error', async (t) => {
    const [a, b] = await startPair(t)
    await b.publish('room', 1, { history })
    await t.rejects(a.broker.history('room', { limit: 10, since: { offset: 1, epoch: 'elsewhere' } }), { code: 'FST_CRWS_UNRECOVERABLE_POSITION' })
    await t.rejects(a.broker.history('other', { limit: 10, since: { offset: 1, epoch: 'elsewhere' } }), { code: 'FST_CRWS_UNRECOVERABLE_POSITION' })
  })

  t.test('a history that was removed is empty, and the next publication has the next offset of the same epoch', async (t) => {
    const [a, b] = await startPair(t)
    await a.subscribe('room', true)
    const { epoch } = await b.publish('room', 'one', { history })
    await b.publish('room', 'two', { history, idempotencyKey: 'key' })
    await a.arrived('room', 2)
    await b.broker.removeHistory('room')
    t.strictSame(await a.broker.history('room', { limit: 10 }), { publications: [], offset: 2, epoch })
    t.strictSame(await b.publish('room', 'again', { history, idempotencyKey: 'key' }), { offset: 2, epoch }, 'what was published stays published')
    t.strictSame(await b.publish('room', 'three', { history }), { offset: 3, epoch })
    await a.arrived('room', 3)
    t.strictSame(a.data('room'), ['one', 'two', 'three'], 'subscribers notice nothing')
    const { publications } = await a.broker.history('room', { limit: 10, since: { offset: 2, epoch: epoch! } })
    t.strictSame(publications.map(({ offset }) => offset), [3])
    t.strictSame([a.missedBefore, a.positionsLost], [[], []])
    await b.broker.removeHistory('nobody has published here')
  })

  t.test('the epoch of a channel is fixed by whoever asks first', async (t) => {
    const [a, b] = await startPair(t)
    const { epoch, offset } = await a.broker.history('room', { limit: 10 })
    t.equal(offset, 0)
    t.strictSame(await b.broker.history('room', { limit: 10 }), { publications: [], offset: 0, epoch })
    t.strictSame(await b.publish('room', 1, { history }), { offset: 1, epoch })
    t.not((await a.broker.history('other', { limit: 0 })).epoch, epoch)
  })

  t.test('the same idempotency key publishes once, with history and without', async (t) => {
    const [a, b] = await startPair(t)
    for (const withHistory of [true, false]) {
      const settings = withHistory ? { history } : {}
      const [one, two] = [`one-${withHistory}`, `two-${withHistory}`]
      await a.subscribe(one, withHistory)
      await a.subscribe(two, withHistory)
      const first = await a.publish(one, 'first', { ...settings, idempotencyKey: 'key' })
      const others = await Promise.all([a, b, a, b].map(node => node.publish(one, 'again', { ...settings, idempotencyKey: 'key' })))
      t.strictSame(others, Array(4).fill(first))
      await b.publish(one, 'other key', { ...settings, idempotencyKey: 'key 2' })
      await b.publish(two, 'other channel', { ...settings, idempotencyKey: 'key' })
      await a.publish(one, 'no key', settings)
      await a.arrived(one, 3)
      await a.arrived(two, 1)
      t.strictSame(a.data(one), ['first', 'other key', 'no key'])
      t.strictSame(a.data(two), ['other channel'])
    }
    t.strictSame(a.missedBefore, [], 'what was not published is not missed')
  })

  t.test('an idempotency key holds whether the publications are kept or not', async (t) => {
    const [a, b] = await startPair(t)
    await a.subscribe('room', true)
    const first = await a.publish('room', 'kept', { history, idempotencyKey: 'one' })
    t.strictSame(await b.publish('room', 'again', { idempotencyKey: 'one' }), first)
    t.strictSame(await a.publish('room', 'not kept', { idempotencyKey: 'two' }), {})
    t.strictSame(await b.publish('room', 'again', { history, idempotencyKey: 'two' }), {})
    await a.publish('room', 'last', { history })
    await a.arrived('room', 3)
    t.strictSame(a.data('room'), ['kept', 'not kept', 'last'])
  })

  t.test('payloads and tags come back byte for byte, live and from the history', async (t) => {
    const [a, b] = await startPair(t)
    const values = [
      'text', '', 'two\nlines', '{"not":"parsed"}', 'žluťoučký 👩‍👩‍👧 \u0000\u2028',
      { a: [1, null, true, 'x\ny'], ž: '👍' }, [], 0, null, false, 1.5e300,
      Buffer.from([]), Buffer.from([0, 10, 32, 255, 13]), randomBytes(100_000)
    ]
    const tags = [{ trace: '00-1-2\n3', 'with space': '', ž: '👍' }, undefined, {}]
    const settings = (i: number) => ({ history, ...(tags[i % 3] !== undefined && { tags: tags[i % 3]! }) })
    await a.subscribe('room', true)
    await a.subscribe('plain', false)
    for (const [i, value] of values.entries()) {
      await b.publish('room', value, settings(i))
      const { history, ...withoutHistory } = settings(i)
      await b.publish('plain', value, withoutHistory)
    }
    await a.arrived('room', values.length)
    await a.arrived('plain', values.length)
    const read = await a.broker.history('room', { limit: 100 })
    for (const publications of [a.publications('room'), a.publications('plain'), read.publications]) {
      t.strictSame(publications.map(decodePayload), values)
      t.strictSame(publications.map(({ kind, payload }) => ({ kind, payload: payload.toString('hex') })),
        values.map(value => ({ kind: encodePayload(value).kind, payload: encodePayload(value).payload.toString('hex') })))
      t.strictSame(publications.map(({ tags }) => tags), values.map((_, i) => tags[i % 3]))
      t.ok(publications.every(({ instance, time }) => instance === b.id && time <= Date.now() && time > Date.now() - 600_000))
    }
  })

  t.test('a channel may have any name', async (t) => {
    const [a, b] = await startPair(t)
    const names = [
      'a{b}c', '{}', '{', '}', '{x', 'x}', '%', '%7B', '%7Bx%7D', '{x}', 'with space', ' ', 'a:b:c', ':', '::', 'inbox:#42', '*', '?[a]', '"\'\\',
      'žluťoučký', '👩‍👩‍👧', '__proto__', 'constructor', 'x'.repeat(255), 'ž'.repeat(127)
    ]
    for (const withHistory of [true, false]) {
      await Promise.all(names.map(name => a.subscribe(name, withHistory)))
      await Promise.all(names.map(name => b.publish(name, `${name} ${withHistory}`, withHistory ? { history } : {})))
      for (const name of names) await a.arrived(name, 1)
      for (const name of names) t.strictSame(a.publications(name).splice(0).map(decodePayload), [`${name} ${withHistory}`], name)
      for (const name of names) a.broker.unsubscribe(name)
    }
    for (const name of names) t.strictSame((await b.broker.history(name, { limit: 10 })).publications.map(decodePayload), [`${name} true`], name)
  })

  t.test('many publish at once, and all instances see the same order', async (t) => {
    const [a, b] = await startPair(t)
    const nodes = a === b ? [a] : [a, b]
    for (const node of nodes) await node.subscribe('room', true)
    const count = 600
    const deep = { size: count, ttl: 60_000 }
    const positions = await Promise.all(range(1, count).map(i => (i % 2 === 0 ? a : b).publish('room', i, { history: deep })))
    for (const node of nodes) await node.arrived('room', count)
    const { publications } = await a.broker.history('room', { limit: count })
    const order = publications.map(decodePayload)
    t.strictSame(new Set(order), new Set(range(1, count)))
    t.strictSame(positions.map(({ offset }) => order[offset! - 1]), range(1, count), 'each publisher was told where its publication stands')
    for (const node of nodes) {
      t.strictSame(node.data('room'), order)
      t.strictSame(node.publications('room').map(({ offset }) => offset), range(1, count))
      t.strictSame(node.missedBefore, [])
    }
  })
}
