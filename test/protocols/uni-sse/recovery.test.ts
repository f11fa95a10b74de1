import t from 'tap'
import type { Options } from '../../../index.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { events } from '../../helpers/event-source.ts'
import type { EventClient } from '../../helpers/event-source.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'

const history = { size: 1_000, ttl: '10m' }
const options: Options = {
  fallback: true,
  channels: {
    '': { subscribe: true, history },
    live: { subscribe: true },
    cache: { subscribe: true, history: { ...history, recover: 'cache' } },
    text: { subscribe: true, history, stream: true }
  }
}
const CHANNELS = ['a', 'b', 'c', 'live:x']

/** The data of these channels after the event of this number, as one client got it. */
function after (client: EventClient, index: number, channels = CHANNELS.slice(0, 3)): Record<string, unknown[]> {
  const rest = client.events.slice(index + 1).map(({ data }) => data)
  const of = (name: string) => rest.filter(({ channel, data }) => channel === name && data !== undefined).map(({ data }) => data)
  return Object.fromEntries(channels.map(name => [name, of(name)]))
}

for (const kind of ['memory', 'redis'] as const) {
  t.test(`broker in ${kind}`, async (t) => {
    const redis = kind === 'redis' ? await startRedis(t) : undefined
    const instances = await startInstances(t, redis === undefined ? 1 : 2, options, redis)
    const [one, other] = [instances[0]!, instances.at(-1)!]

    t.test('from every id a client continues exactly after its event, in all channels, on any instance', async (t) => {
      const whole = await events(t, one.url, CHANNELS)
      await whole.event(0)
      for (let i = 0; i < 30; i++) {
        const { app } = i % 3 === 0 ? other : one
        await app.realtime.publish(CHANNELS[i * 7 % 4]!, i)
        if (i % 5 === 0) for (const connection of connectionsOf(one.app)) connection.send({ i })
      }
      await until(() => whole.data().length === 30, 'all publications')
      t.strictSame(whole.data('live:x'), Array.from({ length: 30 }, (_, i) => i).filter(i => i * 7 % 4 === 3))
      for (const [i, { lastEventId }] of whole.events.entries()) {
        const client = await events(t, other.url, CHANNELS, { lastEventId })
        const expected = after(whole, i)
        const count = Object.values(expected).flat().length
        await client.event(count)
        t.strictSame(after(client, -1), expected, `after event ${i}`)
        t.equal(client.events.length, count + 1)
        t.equal(client.lastEventId, whole.lastEventId, 'it has arrived where the other is')
        // Cut off again among what it recovers, it continues there.
        const { lastEventId: between } = client.events[Math.ceil(count / 2)]!
        const again = await events(t, one.url, CHANNELS, { lastEventId: between })
        await again.event(count - Math.ceil(count / 2))
        t.strictSame(after(again, 0), after(client, Math.ceil(count / 2)))
        client.close()
        again.close()
      }
      whole.close()
    })

    t.test('a client that is cut again and again while others publish loses nothing and gets nothing twice', async (t) => {
      const names = ['d', 'e', 'f']
      const got = new Map(names.map(name => [name, [] as number[]]))
      const publish = async () => {
        for (let i = 0; i < 600; i++) {
          await (i % 2 === 0 ? one : other).app.realtime.publish(names[i % 3]!, i)
          if (i % 10 === 0) await until(() => cuts > i / 40, 'the next cut')
        }
      }
      let cuts = 0
      let published: Promise<void> | undefined
      let lastEventId: string | undefined
      let left = 600
      while (left > 0) {
        const client = await events(t, instances[cuts++ % instances.length]!.url, names, { lastEventId })
        await client.event(0)
        published ??= publish()
        await client.event(Math.min(1 + cuts % 5, left)) // the last ones may be fewer
        client.close()
        await until(() => client.ended, 'the cut')
        for (const { data: { channel, data } } of client.events.slice(1)) got.get(channel)!.push(data)
        left -= client.events.length - 1
        lastEventId = client.lastEventId
      }
      await published
      t.ok(cuts > 10, `${cuts} cuts`)
      for (const [i, name] of names.entries()) t.strictSame(got.get(name), Array.from({ length: 200 }, (_, n) => n * 3 + i), name)
    })

    t.test('a client is told once which channels cannot be recovered', async (t) => {
      await one.app.realtime.publish('lost', 1)
      const client = await events(t, one.url, ['lost', 'live:x', 'a'])
      const { lastEventId, data } = await client.event(0)
      client.close()
      const { epoch } = data.channels.lost
      const foreign = lastEventId.replace(epoch, 'another')
      const told = await events(t, other.url, ['lost', 'live:x', 'a'], { lastEventId: foreign })
      await told.event(1)
      t.match(told.events[0]!.data.channels, { lost: { recovered: false, offset: 1, epoch }, 'live:x': {}, a: { recovered: true } })
      t.strictSame(told.events[1]!.data, { channel: 'lost', recovered: false, offset: 1, epoch })
      const twice = await events(t, other.url, ['lost', 'live:x', 'a'], { lastEventId: told.events[0]!.lastEventId })
      await twice.event(1)
      t.match(twice.events[1]!.data, { recovered: false }, 'it had only the first event')
      const done = await events(t, other.url, ['lost', 'live:x', 'a'], { lastEventId: told.lastEventId })
      await done.event(0)
      t.match(done.events[0]!.data.channels.lost, { recovered: true })
      for (const nonsense of ['nonsense', '2~x', '1~x', `1~${'a'.repeat(9_000)}`, '1~aaaaaaaa.%ff.1', '1~aaaaaaaa.x.zzzzzzzzzzz']) {
        const lost = await events(t, one.url, ['lost', 'live:x'], { query: `&lastEventId=${encodeURIComponent(nonsense)}` })
        await lost.event(1)
        t.match(lost.events[1]!.data, { channel: 'lost', recovered: false }, nonsense.slice(0, 20))
      }
    })

    t.test('a channel in which only the newest value counts recovers that', async (t) => {
      await one.app.realtime.publish('cache:1', 1)
      const client = await events(t, one.url, ['cache:1', 'a'])
      await client.event(1)
      t.strictSame(client.data(), [1])
      client.close()
      for (const value of [2, 3]) await one.app.realtime.publish('cache:1', value)
      const again = await events(t, other.url, ['cache:1', 'a'], { lastEventId: client.lastEventId })
      await again.event(1)
      t.strictSame(again.data(), [3])
      const same = await events(t, one.url, ['cache:1', 'a'], { lastEventId: again.lastEventId })
      await same.event(0)
      await one.app.realtime.publish('cache:1', 4)
      await same.event(1)
      t.strictSame(same.data(), [4])
    })

    t.test('a text that is streamed continues, and begins again where it was cut among its parts', async (t) => {
      const textOf = (parts: any[]) => parts.reduce<string>((text, part) => text.slice(0, part.from) + part.text, '')
      const texts = (client: EventClient) => textOf(client.data('text:1'))
      const client = await events(t, one.url, ['text:1'])
      await client.event(0)
      await one.app.realtime.stream('text:1', (async function * () { for (const word of ['a ', 'b ', 'c ']) yield word })())
      await until(() => texts(client) === 'a b c ', 'the text')
      const fresh = await events(t, other.url, ['text:1'])
      await until(() => texts(fresh) === 'a b c ', 'the text, in one part')
      t.equal(fresh.events[0]!.lastEventId, '', 'who has nothing yet begins again')
      t.equal(fresh.lastEventId, client.lastEventId)
      const later = await events(t, other.url, ['text:1'], { lastEventId: client.events[1]!.lastEventId })
      await until(() => later.lastEventId === client.lastEventId, 'the end')
      t.equal(textOf([client.events[1]!.data.data, ...later.data()]), 'a b c ')
      t.equal(later.events[0]!.lastEventId, client.events[1]!.lastEventId)
    })
  })
}
