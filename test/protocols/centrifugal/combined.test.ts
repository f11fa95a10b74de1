import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import type { SubscriptionOptions } from 'centrifuge'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import type { SdkClient, SdkSubscription } from '../../helpers/sdk.ts'
import { nameOf, wireClient, wires } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'
import { Random } from '../../simulator/random.ts'

// SEED=123 runs one combination; SEEDS=300 runs more of them than usual.
const { SEED, SEEDS = '25' } = process.env
const STEPS = 25
const weights = { burst: 10, unsubscribe: 2, reconnect: 2, cut: 2, message: 3, pause: 4 }
const first = Number(SEED ?? 1)
const last = SEED === undefined ? Number(SEEDS) : first

t.setTimeout(30_000 * (last - first + 2))
const redis = await startRedis(t)

/** A publication, and whose it is. */
interface Published {
  readonly n: number
  readonly lang: string
  readonly kept: boolean
  /** The one client that does not get it. */
  readonly except: Reader | undefined
}

interface Reader {
  readonly name: string
  readonly client: SdkClient
  readonly subscription: SdkSubscription
  /** undefined: all. */
  readonly lang: string | undefined
}

for (let seed = first; seed <= last; seed++) {
  t.test(`seed ${seed}: everybody gets what is theirs, once, in order and as it was published`, async (t) => {
    const random = new Random(seed * 7_919)
    const settings = settingsOf(random)
    t.comment(JSON.stringify(settings))
    const store = random.chance(0.5) ? redis : undefined
    const instances = await startInstances(t, store === undefined ? 1 : 2, settings, store)
    const readers = await startReaders(t, random, instances.map(({ url }) => url), settings)
    const publisher = random.pick(instances).app.realtime
    const published: Published[] = []

    const publish = async (all = false): Promise<void> => {
      const except = !all && random.chance(0.2) ? random.pick(readers) : undefined
      const one: Published = {
        n: published.length + 1, lang: all ? 'all' : random.pick(['de', 'en', 'fr']), kept: all || random.chance(0.9), except
      }
      published.push(one)
      await publisher.publish('room:1', document(one.n, seed), {
        tags: { lang: one.lang },
        ...(!one.kept && { history: false }),
        ...(except !== undefined && except.client.id !== '' && { except: except.client.id })
      })
    }
    for (let step = 0; step < STEPS; step++) {
      const { client, subscription: { sub } } = random.pick(readers)
      const steps: Record<keyof typeof weights, () => Promise<void>> = {
        burst: async () => {
          const all: Array<Promise<void>> = []
          for (let i = random.between(1, 5); i > 0; i--) {
            all.push(publish())
            if (random.chance(0.3)) await turn()
          }
          await Promise.all(all)
        },
        unsubscribe: async () => {
          sub.unsubscribe()
          if (random.chance(0.5)) await publish()
          sub.subscribe()
        },
        reconnect: async () => {
          client.client.disconnect()
          if (random.chance(0.5)) await publish()
          client.client.connect()
        },
        cut: async () => {
          const { app } = random.pick(instances)
          const connections = connectionsOf(app)
          if (connections.length > 0) random.pick(connections).close(3001, 'go on elsewhere')
        },
        message: async () => {
          for (const { app } of instances) for (const connection of connectionsOf(app)) connection.send({ note: 'x'.repeat(300) })
        },
        pause: async () => { await wait(random.between(1, 15)) }
      }
      await steps[random.weighted(weights)]()
    }
    await Promise.all(readers.map(({ subscription: { sub } }) => sub.ready(20_000)))
    await publish(true)
    for (const reader of readers) {
      const { name, subscription } = reader
      await until(() => numbersOf(reader).includes(published.length), `the last publication at ${name}`, 20_000)
      judge(t, reader, published, seed)
      t.strictSame(subscription.events.error, [], name)
    }
  })
}

function settingsOf (random: Random): Options & { channels: { room: NonNullable<NonNullable<Options['channels']>['room']> } } {
  const yes = () => random.chance(0.5)
  return {
    fallback: true,
    compression: yes() ? { minBytes: 100 } : false,
    channels: {
      room: {
        subscribe: true,
        history: { size: 1_000, ttl: '10m' },
        delta: yes(),
        tagsFilter: yes(),
        compaction: yes(),
        compression: yes(),
        presence: yes(),
        joinLeave: yes(),
        batchDelay: random.pick([0, 0, 3])
      }
    }
  }
}

async function startReaders (t: Test, random: Random, urls: string[], settings: ReturnType<typeof settingsOf>): Promise<Reader[]> {
  const { delta, tagsFilter } = settings.channels.room
  const readers: Reader[] = []
  for (let i = 0; i < 5; i++) {
    const wire = random.pick(wires)
    const lang = tagsFilter === true && random.chance(0.5) ? random.pick(['de', 'en']) : undefined
    const options: SubscriptionOptions = lang !== undefined
      ? { tagsFilter: { key: 'lang', cmp: 'in', vals: [lang, 'all'] } }
      : delta === true && random.chance(0.7) ? { delta: 'fossil' } : {}
    const client = wireClient(t, random.pick(urls), wire, {}, random.pick(urls))
    const subscription = client.subscribe('room:1', options)
    const what = lang ?? (options.delta === undefined ? 'whole' : 'delta')
    readers.push({ name: `reader ${i} (${nameOf(wire)}, ${what})`, client, subscription, lang })
  }
  await Promise.all(readers.map(({ subscription }) => subscription.subscribed()))
  return readers
}

/** What is patched well, what is not, and what hardly changes. */
function document (n: number, seed: number): unknown {
  const random = new Random(seed * 1_000 + n)
  if (random.chance(0.15)) return { n }
  const rows = Array.from({ length: random.between(3, 20) }, (_, i) => ({ id: i, price: i === n % 20 ? n : 7, city: 'Zürich → 東京 🙂' }))
  return { n, rows, ...(random.chance(0.2) && { noise: Array.from({ length: 50 }, () => random.next()) }) }
}

function numbersOf ({ subscription }: Reader): number[] {
  return subscription.data.map(data => (data as { n: number }).n)
}

function judge (t: Test, reader: Reader, published: readonly Published[], seed: number): void {
  const { name, subscription, lang } = reader
  const numbers = numbersOf(reader)
  for (const kept of [true, false]) {
    // What is not kept has no place among the others while a client recovers them.
    const those = numbers.filter(n => published[n - 1]!.kept === kept)
    t.strictSame(those, those.toSorted((a, b) => a - b), `${name}: in order`)
  }
  t.equal(new Set(numbers).size, numbers.length, `${name}: once`)
  for (const data of subscription.data) t.strictSame(data, document((data as { n: number }).n, seed))
  const unrecovered = subscription.events.subscribed.slice(1).filter(({ recovered }) => !recovered)
  t.strictSame(unrecovered, [], `${name}: it always recovers`)
  const own = published.filter(one => lang === undefined || one.lang === lang || one.lang === 'all')
  const got = new Set(numbers)
  // What is not kept, or not for this connection of the client, may come or not while it changes its connection.
  const due = own.filter(({ kept, except }) => kept && except !== reader).map(({ n }) => n)
  t.strictSame(due.filter(n => !got.has(n)), [], `${name}: all`)
  const numbersOfOwn = new Set(own.map(({ n }) => n))
  t.strictSame(numbers.filter(n => !numbersOfOwn.has(n)), [], `${name}: nothing else`)
}
