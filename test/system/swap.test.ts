import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { startApp } from '../helpers/app.ts'
import { audit, Ledger } from '../helpers/audit.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { startServer } from '../helpers/server-process.ts'
import { wireClient, wires } from '../helpers/streams.ts'
import { until } from '../helpers/until.ts'

const CLIENTS = 40
t.setTimeout(300_000)
const redis = await startRedis(t)

interface Server { url: string, end (): Promise<unknown> }

/**
 * Forty clients of all transports on two instances behind a balancer, which gives posts to either. One instance is a
 * process that can be killed. A third instance has no clients and publishes.
 */
async function startService (t: Test) {
  const room = { subscribe: true, presence: true, history: { size: 10_000, ttl: '10m' } } as const
  const options = { redis: redis.url, keyPrefix: randomPrefix(), channels: { room }, fallback: true }
  const start = async (): Promise<Server> => {
    const { app, url } = await startApp(t, options)
    return { url, end: () => app.close() }
  }
  const startProcess = async (): Promise<Server> => {
    const { child, urls, exited } = await startServer(t, { options })
    return {
      url: urls[0]!,
      async end () {
        child.kill('SIGKILL')
        t.match(await exited, { signal: 'SIGKILL' })
      }
    }
  }
  const [publisher, one, two] = await Promise.all([startApp(t, options), start(), startProcess()])
  const balancer = await startBalancer(t, [one.url, two.url])
  const clients = Array.from({ length: CLIENTS }, (_, i) => wireClient(t, balancer.url, wires[i % wires.length]!))
  const subscriptions = clients.map(client => client.subscribe('room:1'))
  await Promise.all(subscriptions.map(subscription => subscription.subscribed()))
  const ledger = new Ledger()
  const publish = () => ledger.publish(id => publisher.app.realtime.publish('room:1', id))

  /** A new instance takes over: the balancer sends no more connections to the old one, which ends. */
  async function replace (old: Server): Promise<Server> {
    const next = await start()
    const connects = () => clients.reduce((sum, { events }) => sum + events.connected.length, 0)
    const before = connects()
    balancer.targets = balancer.targets.map(target => target === old.url ? next.url : target)
    await old.end()
    const areConnected = () => clients.every(({ client }) => client.state === 'connected')
    await until(() => areConnected() && connects() >= before + CLIENTS / 4, 'all clients are back', 60_000)
    return next
  }

  async function finish (): Promise<void> {
    await publish()
    const { recovered, ...result } = await audit(subscriptions, ledger)
    t.strictSame(result, { lost: 0, twice: 0, disordered: 0, wrong: 0, lies: 0, unrecovered: 0 })
    t.comment(`${ledger.top} publications to ${CLIENTS} clients, ${recovered} recoveries`)
    t.ok(recovered >= CLIENTS, `${recovered} recovered`)
    t.strictSame(clients.flatMap(({ events }) => events.disconnected), [], 'no client has given up')
    t.strictSame(subscriptions.flatMap(({ events }) => events.unsubscribed), [])
    await until(async () => (await publisher.app.realtime.presenceStats('room:1')).clients >= CLIENTS, 'all clients are present')
  }
  return { one, two, ledger, publish, replace, finish }
}

t.test('no client misses or repeats a publication when instances are replaced while publications flow', async (t) => {
  const { one, two, ledger, publish, replace, finish } = await startService(t)
  const flow = { ended: false }
  const flowing = (async () => {
    while (!flow.ended) {
      await Promise.all([publish(), publish(), publish()])
      await wait(5) // the pace of the publications
    }
  })()
  const further = async () => {
    const { top } = ledger
    await until(() => ledger.top > top + 200, 'more publications', 60_000)
  }
  await further()
  const third = await replace(one)
  await further()
  await replace(two)
  await further()
  await replace(third)
  await further()
  flow.ended = true
  await flowing
  await finish()
})

t.test('no client misses or repeats a publication when instances are replaced while hardly anything is published', async (t) => {
  const { one, two, publish, replace, finish } = await startService(t)
  await replace(one) // nothing was published yet: the positions are those of an empty channel
  await publish()
  const replacing = replace(two)
  await publish() // some of the clients are away
  await replacing
  await finish()
})
