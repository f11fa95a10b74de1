import t from 'tap'
import type { Test } from 'tap'
import { startApp } from '../helpers/app.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { importBlock } from '../helpers/docs.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'

/** An app in each region, a load balancer in front of the first, and a client with the page's code. */
async function twoRegions (t: Test, urls: [string, string]) {
  const keyPrefix = randomPrefix()
  const channels = { room: { subscribe: true, presence: true, history: { size: 100, ttl: '1h' } } }
  const start = (redis: string) => startApp(t, { redis, keyPrefix, channels, authenticate: () => ({ user: 'ada' }) })
  const [first, second] = [await start(urls[0]), await start(urls[1])]
  const balancer = await startBalancer(t, [first.url])
  const client = sdkClient(t, balancer.url, 'json')
  const room = client.subscribe('room:1')
  const { keepUp } = await importBlock(t, 'docs/regions.md', 'failover')
  let loads = 0
  keepUp(room.sub, () => { loads++ })
  await room.subscribed()
  return {
    first: first.app.realtime,
    second: second.app.realtime,
    room,
    loads: () => loads,
    /** The first region goes away with the client's connection. */
    cut () {
      balancer.targets = []
      balancer.cut()
    },
    /** New connections go to this region. */
    to (region: 'first' | 'second') { balancer.targets = [{ first, second }[region].url] }
  }
}

t.test('two regions with a Redis each are two worlds, and a client that fails over is told to load again', async (t) => {
  const { first, second, room, loads, cut, to } = await twoRegions(t, [(await startRedis(t)).url, (await startRedis(t)).url])
  await first.publish('room:1', 'in the first')
  await second.publish('room:1', 'in the second')
  await first.publish('room:1', 'in the first again')
  await room.arrived(2)
  t.strictSame(room.data, ['in the first', 'in the first again'], 'a publication reaches the clients of its own region')
  const contents = async ({ history, presence }: typeof first) => ({
    history: (await history('room:1', { limit: 10 })).publications.map(({ data }) => data),
    members: (await presence('room:1')).length
  })
  t.strictSame(await contents(first), { history: ['in the first', 'in the first again'], members: 1 })
  t.strictSame(await contents(second), { history: ['in the second'], members: 0 }, 'history and presence are those of the region')

  cut()
  to('second')
  await room.subscribed(2)
  t.match(room.events.subscribed[1], { wasRecovering: true, recovered: false })
  await until(() => loads() === 1, 'the app loads again')
  await second.publish('room:1', 'after the failover')
  await room.arrived(3)
  t.equal(room.data.at(-1), 'after the failover')

  await t.test('and once more when it goes back', async (t) => {
    cut()
    to('first')
    await room.subscribed(3)
    t.match(room.events.subscribed[2], { wasRecovering: true, recovered: false })
    await until(() => loads() === 2, 'the app loads again')
    t.strictSame(room.data, ['in the first', 'in the first again', 'after the failover'], 'nothing came twice')
  })
})

t.test('two regions with one Redis are one world, and a client that fails over misses nothing', async (t) => {
  const { url } = await startRedis(t)
  const { first, second, room, loads, cut, to } = await twoRegions(t, [url, url])
  await first.publish('room:1', 'from the first')
  await second.publish('room:1', 'from the second')
  await room.arrived(2)
  cut()
  await second.publish('room:1', 'while it was away')
  to('second')
  await room.subscribed(2)
  t.match(room.events.subscribed[1], { wasRecovering: true, recovered: true })
  await room.arrived(3)
  t.strictSame(room.data, ['from the first', 'from the second', 'while it was away'])
  t.equal(loads(), 0)
})
