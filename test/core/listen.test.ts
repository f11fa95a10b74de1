import t from 'tap'
import type { Test } from 'tap'
import type { Options, PublishedData } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { startInstances } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(240_000)

const channels: Options['channels'] = { kept: { history: { size: 5_000, ttl: '10m' } }, few: { history: { size: 5, ttl: '1m' } }, loose: {} }
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** A handler that writes down what it gets, and can be held. */
function recorder () {
  const seen: Array<PublishedData> = []
  let open = true
  let letGo: () => void = () => {}
  let gate = Promise.resolve()
  return {
    seen,
    get data () { return seen.map(({ data }) => data) },
    hold () {
      open = false
      gate = new Promise(resolve => { letGo = resolve })
    },
    release () {
      open = true
      letGo()
    },
    handler: async function (this: void, publication: PublishedData) {
      seen.push(publication)
      if (!open) await gate
    }
  }
}

for (const backend of ['memory', 'Redis']) {
  const start = async (t: Test, fastifyOptions = {}) => {
    const redis = backend === 'memory' ? false : (await startRedis(t)).url
    return startApp(t, { redis, keyPrefix: randomPrefix(), channels }, fastifyOptions)
  }

  t.test(`a listener gets what is published from now on, as the history has it, on ${backend}`, async (t) => {
    const { app: { realtime } } = await start(t)
    await realtime.publish('kept:1', 'before')
    const { seen, handler } = recorder()
    const channelsSeen: string[] = []
    const listener = await realtime.listen('kept:1', (publication, channel) => {
      channelsSeen.push(channel)
      return handler(publication)
    })
    t.equal(listener.channel, 'kept:1')
    await realtime.publish('kept:1', { text: 'hello' }, { tags: { lang: 'en' } })
    await realtime.publish('kept:1', Buffer.from([1, 2]))
    await until(() => seen.length === 2, 'both arrive')
    const { publications } = await realtime.history('kept:1')
    t.strictSame(seen, publications.slice(1))
    t.match(seen[0], { data: { text: 'hello' }, tags: { lang: 'en' }, offset: 2 })
    t.strictSame(channelsSeen, ['kept:1', 'kept:1'])
    await listener.stop()
    await realtime.publish('kept:1', 'after')
    t.equal(seen.length, 2)
  })

  t.test(`a channel without history, two listeners and a client in it: each gets everything, on ${backend}`, async (t) => {
    const { app, url } = await start(t)
    const client = await connect(t, `${url}/ws`)
    await [...app.realtime.connections][0]!.subscribe('loose:1')
    const [one, other] = [recorder(), recorder()]
    const first = await app.realtime.listen('loose:1', one.handler)
    await app.realtime.listen('loose:1', other.handler)
    await app.realtime.publish('loose:1', 'a')
    t.equal(await client.next(), 'a')
    await until(() => one.seen.length === 1 && other.seen.length === 1, 'both listeners have it')
    t.match(one.seen[0], { data: 'a', offset: 0, epoch: '' })
    await first.stop()
    await app.realtime.publish('loose:1', 'b')
    t.equal(await client.next(), 'b')
    await until(() => other.seen.length === 2, 'the second listener has it')
    t.strictSame(one.data, ['a'])
  })

  t.test(`since: everything after it comes once, merged with what is published meanwhile, on ${backend}`, async (t) => {
    const { app: { realtime } } = await start(t)
    for (const n of range(1, 250)) await realtime.publish('kept:1', n)
    const { offset, epoch } = await realtime.history('kept:1', { limit: 0 })
    t.equal(offset, 250)
    const { seen, handler } = recorder()
    const listening = realtime.listen('kept:1', handler, { since: { offset: 10, epoch } })
    for (const n of range(251, 300)) await realtime.publish('kept:1', n)
    await listening
    for (const n of range(301, 320)) await realtime.publish('kept:1', n)
    await until(() => seen.length >= 310, 'all arrive')
    t.strictSame(seen.map(({ data }) => data), range(11, 320))
    t.strictSame(seen.map(one => one.offset), range(11, 320))
    const whole = recorder()
    await realtime.listen('kept:1', whole.handler, { since: { offset: 0, epoch: '' } })
    await until(() => whole.seen.length >= 320, 'all arrive')
    t.strictSame(whole.data, range(1, 320))
  })

  t.test(`a position that the history cannot go on from is refused, on ${backend}`, async (t) => {
    const { app: { realtime } } = await start(t)
    for (const n of range(1, 10)) await realtime.publish('few:1', n)
    const { epoch } = await realtime.history('few:1', { limit: 0 })
    const code = 'FST_CRWS_UNRECOVERABLE_POSITION'
    await t.rejects(realtime.listen('few:1', () => {}, { since: { offset: 4, epoch } }), { code, message: /no longer has everything after it/ })
    await t.rejects(realtime.listen('few:1', () => {}, { since: { offset: 11, epoch } }), { code })
    await t.rejects(realtime.listen('few:1', () => {}, { since: { offset: 9, epoch: 'other' } }), { code, message: /epoch/ })
    const { seen, handler } = recorder()
    await realtime.listen('few:1', handler, { since: { offset: 5, epoch } })
    await until(() => seen.length === 5, 'what the history has comes')
  })

  t.test(`a handler that is slow loses nothing that the history holds, on ${backend}`, async (t) => {
    const { logger, entries } = collectLog()
    const { app: { realtime } } = await start(t, { logger })
    const [slow, fast] = [recorder(), recorder()]
    slow.hold()
    for (const one of [slow, fast]) await realtime.listen('kept:1', one.handler)
    for (const n of range(1, 3_000)) await realtime.publish('kept:1', n)
    await realtime.publish('kept:1', 'not kept', { history: false })
    await until(() => fast.seen.length === 3_001 && slow.seen.length === 1, 'all have arrived')
    slow.release()
    await until(() => slow.seen.length >= 3_000, 'all arrive', 30_000)
    await realtime.publish('kept:1', 'live')
    await until(() => slow.seen.length >= 3_001, 'it is live again')
    t.strictSame(slow.data, [...range(1, 3_000), 'live'])
    t.strictSame(slow.seen.map(({ offset }) => offset), range(1, 3_001))
    t.match(entries.filter(({ event }) => event === 'publications.missed'), [{ channel: 'kept:1', count: 1 }], 'what was not kept was lost, and is told')
  })

  t.test(`of large publications fewer wait, on ${backend}`, async (t) => {
    const { app: { realtime } } = await start(t)
    const slow = recorder()
    slow.hold()
    await realtime.listen('kept:1', slow.handler)
    const sizes = Array.from({ length: 20 }, (_, i) => String(i).padEnd(200_000, '.'))
    for (const data of sizes) await realtime.publish('kept:1', data)
    slow.release()
    await until(() => slow.seen.length >= 20, 'all arrive')
    t.strictSame(slow.data, sizes)
  })

  t.test(`a handler that is too slow for the history, or for a channel without one: what is lost is counted and logged, on ${backend}`, async (t) => {
    const { logger, entries } = collectLog()
    const { app: { realtime } } = await start(t, { logger })
    const [few, loose] = [recorder(), recorder()]
    few.hold()
    loose.hold()
    const fast = recorder()
    for (const one of [few, fast]) await realtime.listen('few:1', one.handler)
    for (const one of [loose, fast]) await realtime.listen('loose:1', one.handler)
    const publish = (n: number) => Promise.all([realtime.publish('few:1', n), realtime.publish('loose:1', n)])
    await publish(1)
    await until(() => few.seen.length === 1 && loose.seen.length === 1, 'the first ones are there')
    for (const n of range(2, 1_100)) await publish(n)
    await until(() => fast.seen.length === 2_200, 'all have arrived')
    few.release()
    loose.release()
    await until(() => few.seen.at(-1)?.offset === 1_100, 'the newest of those with history arrives')
    await until(() => loose.seen.length >= 1_001, 'those that waited arrive')
    t.strictSame(few.seen.map(({ offset }) => offset), [...range(1, 1_001), ...range(1_096, 1_100)])
    await realtime.publish('loose:1', 'live')
    await until(() => loose.data.at(-1) === 'live', 'it is live')
    t.equal(loose.seen.length, 1_002)
    const missed = entries.filter(({ event }) => event === 'publications.missed').toSorted((a, b) => a.channel < b.channel ? -1 : 1)
    t.match(missed, [{ channel: 'few:1', count: 94, reason: /too slow/ }, { channel: 'loose:1', reason: /too slow/ }])
    t.equal(missed.length, 2, 'a channel is logged once')
  })

  t.test(`a handler that fails is an ERROR once for each text, and gets the next one, on ${backend}`, async (t) => {
    const { logger, entries } = collectLog()
    const { app: { realtime } } = await start(t, { logger })
    const seen: unknown[] = []
    await realtime.listen('kept:1', ({ data }) => {
      seen.push(data)
      if (data === 'reject') return Promise.reject(new Error('the database is down'))
      throw new Error('the handler has a bug')
    })
    for (const data of ['throw', 'reject', 'throw', 'reject', 'end']) await realtime.publish('kept:1', data)
    await until(() => seen.length === 5, 'it gets all')
    const errors = () => entries.filter(({ event }) => event === 'listener.failed')
    await until(() => errors().length === 2, 'each is logged')
    t.match(errors(), [
      { level: 50, channel: 'kept:1', err: { message: 'the handler has a bug', stack: /listen\.test/ }, msg: /^The listener of channel kept:1 failed: the handler has a bug/ },
      { err: { message: 'the database is down' } }
    ])
  })

  t.test(`handlers run one at a time, and stop waits for the one that runs, on ${backend}`, async (t) => {
    const { app: { realtime } } = await start(t)
    const one = recorder()
    one.hold()
    const listener = await realtime.listen('kept:1', one.handler)
    await realtime.publish('kept:1', 1)
    await realtime.publish('kept:1', 2)
    await until(() => one.seen.length === 1, 'the first one is there')
    let stopped = false
    const stopping = listener.stop().then(() => { stopped = true })
    await realtime.publish('kept:1', 3)
    t.equal(stopped, false)
    one.release()
    await stopping
    await listener.stop()
    t.strictSame(one.data, [1])
  })

  t.test(`a handler may publish to its own channel: clients see the order of the history, on ${backend}`, async (t) => {
    const { app, url } = await start(t)
    const client = await connect(t, `${url}/ws`)
    await [...app.realtime.connections][0]!.subscribe('kept:1')
    await app.realtime.listen('kept:1', async ({ data }) => { if (data === 'ask') await app.realtime.publish('kept:1', 'answer') })
    await app.realtime.publish('kept:1', 'ask')
    t.strictSame([await client.next(), await client.next()], ['ask', 'answer'])
  })

  t.test(`joins and leaves are not handed over, on ${backend}`, async (t) => {
    const redis = backend === 'memory' ? false : (await startRedis(t)).url
    const { app, url } = await startApp(t, { redis, keyPrefix: randomPrefix(), channels: { room: { joinLeave: true } } })
    const { seen, handler } = recorder()
    await app.realtime.listen('room:1', handler)
    const client = await connect(t, `${url}/ws`)
    await [...app.realtime.connections][0]!.subscribe('room:1')
    client.socket.close()
    await client.closed
    await app.realtime.publish('room:1', 'a')
    await until(() => seen.length > 0, 'the publication arrives')
    t.match(seen, [{ data: 'a' }])
  })
}

t.test('the close of the app stops all listeners, and waits for a handler that runs', async (t) => {
  const { app } = await startApp(t, { redis: false, channels })
  const one = recorder()
  one.hold()
  await app.realtime.listen('kept:1', one.handler)
  await app.realtime.publish('kept:1', 1)
  await until(() => one.seen.length === 1, 'the handler runs')
  let closed = false
  const closing = app.close().then(() => { closed = true })
  await until(async () => app.realtime.listen('kept:1', () => {}).then(listener => listener.stop().then(() => false), ({ code }) => code === 'FST_CRWS_CLOSING'), 'it takes no more')
  t.equal(closed, false)
  one.release()
  await closing
})

t.test('what listen cannot take is refused with what it takes', async (t) => {
  const { app: { realtime } } = await startApp(t, { redis: false, channels })
  const code = 'FST_CRWS_INVALID_ARGUMENT'
  await t.rejects(realtime.listen('', () => {}), { code: 'FST_CRWS_INVALID_CHANNEL' })
  await t.rejects(realtime.listen('kept:1', 'handler' as never), { code, message: /Invalid handler: got 'handler', expected a function/ })
  await t.rejects(realtime.listen('kept:1', () => {}, { form: 1 } as never), { code, message: /options of listen/ })
  await t.rejects(realtime.listen('kept:1', () => {}, { since: 5 as never }), { code, message: /a position/ })
  await t.rejects(realtime.listen('loose:1', () => {}, { since: { offset: 0, epoch: '' } }), { code, message: /keeps no history/ })
  await realtime.listen('kept:1', () => {}, { since: undefined })
})

t.test('two instances: each has a listener, each listener gets what both publish', async (t) => {
  const redis = await startRedis(t)
  const instances = await startInstances(t, 2, { channels }, redis)
  const recorders = instances.map(() => recorder())
  await Promise.all(instances.map(({ app }, i) => app.realtime.listen('kept:1', recorders[i]!.handler)))
  await Promise.all(range(1, 100).map(n => instances[n % 2]!.app.realtime.publish('kept:1', n)))
  await until(() => recorders.every(({ seen }) => seen.length >= 100), 'all arrive')
  for (const { seen } of recorders) t.strictSame(seen.map(({ offset }) => offset), range(1, 100))
  t.strictSame(recorders[0]!.data, recorders[1]!.data)
})

for (const fault of ['freezes', 'restarts'] as const) {
  t.test(`Redis ${fault}: a listener gets every publication once and in order`, async (t) => {
    const redis = await startRedis(t, { persist: true })
    const instances = await startInstances(t, 2, { channels }, redis)
    const one = recorder()
    await instances[0]!.app.realtime.listen('kept:1', one.handler)
    const publish = async (n: number) => { await until(() => instances[1]!.app.realtime.publish('kept:1', n).then(() => true), 'it is published', 60_000) }
    const isUp = (up: boolean) => until(async () => (await Promise.all(instances.map(({ app }) => app.inject('/ready')))).every(ready => (ready.json().redis === 'up') === up), 'Redis is seen', 60_000)
    for (const n of range(1, 20)) await publish(n)
    if (fault === 'freezes') redis.freeze()
    else await redis.kill()
    await isUp(false)
    await t.rejects(instances[0]!.app.realtime.listen('kept:1', () => {}), { code: /^FST_CRWS_REDIS/ }, 'a new one is refused at once')
    if (fault === 'freezes') redis.thaw()
    else await redis.restart()
    await isUp(true)
    for (const n of range(21, 40)) await publish(n)
    const last = await until(() => instances[1]!.app.realtime.history('kept:1', { limit: 0 }), 'the history is there')
    await until(() => one.seen.at(-1)?.offset === last.offset, 'all arrive', 60_000)
    t.strictSame(one.seen.map(({ offset }) => offset), range(1, last.offset))
    t.strictSame([...new Set(one.data)], range(1, 40))
  })
}

t.test('Redis freezes while a slow listener reads the history: it reads again when Redis is back', async (t) => {
  const redis = await startRedis(t)
  const [{ app }] = await startInstances(t, 1, { channels }, redis) as [Awaited<ReturnType<typeof startApp>>]
  const slow = recorder()
  slow.hold()
  await app.realtime.listen('kept:1', slow.handler)
  await Promise.all(range(1, 2_000).map(n => app.realtime.publish('kept:1', n)))
  await until(() => slow.seen.length === 1, 'the first one is there')
  redis.freeze()
  slow.release()
  await until(() => slow.seen.length === 1_001, 'those in memory are handled')
  await until(async () => (await app.inject('/ready')).json().redis === 'down', 'Redis is away', 60_000)
  redis.thaw()
  await until(() => slow.seen.length === 2_000, 'the rest arrives', 60_000)
  t.strictSame(slow.seen.map(({ offset }) => offset), range(1, 2_000))
})

t.test('Redis loses everything: the listener goes on in the new epoch, and what was lost is told', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), channels }, { logger })
  const [one, slow] = [recorder(), recorder()]
  slow.hold()
  await app.realtime.listen('kept:1', one.handler)
  await app.realtime.listen('kept:1', slow.handler)
  await Promise.all(range(1, 1_200).map(n => app.realtime.publish('kept:1', n)))
  await until(() => one.seen.length === 1_200 && slow.seen.length === 1, 'they are there')
  await command(redis.port, ['FLUSHALL'])
  await Promise.all(range(1, 3).map(n => app.realtime.publish('kept:1', `new ${n}`)))
  await until(() => one.seen.length === 1_203, 'the new ones arrive')
  slow.release()
  await until(() => slow.data.at(-1) === 'new 3', 'at the slow one too')
  t.strictSame(slow.seen.map(({ data }) => data).slice(1_001), ['new 1', 'new 2', 'new 3'])
  t.strictSame(one.seen.slice(1_200).map(({ offset }) => offset), [1, 2, 3])
  t.not(one.seen.at(-1)!.epoch, one.seen[0]!.epoch)
  await until(() => entries.some(({ event, count }) => event === 'publications.missed' && count === 199), 'what the slow one did not get is told')
})
