import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { buildPackage } from '../helpers/built-package.ts'

interface App {
  instances: number
  connections: number
  channels: number
  perConnection?: number
  publications?: number
  history?: boolean
  presence?: boolean
  shards?: number
  payload?: number
}
interface Traffic {
  subscriptions: number
  messages: number
  bytesIn: number
  bytesOut: number
  deliveries: number
  reach: number
  links: number
}
type Costs = Record<string, number>

// The benchmarks are plain JavaScript without types.
const load = async <Exports>(file: string): Promise<Exports> => await import(new URL(`../../bench/${file}.mjs`, import.meta.url).href)
const { instancesReached, drawReach, seededRandom } = await load<{
  instancesReached (instances: number, members: number): number
  drawReach (app: App, random: () => number, how?: 'chance' | 'full'): number[]
  seededRandom (seed: number): () => number
}>('placement')
const { traffic, redisCpu, shardsNeeded, carried } = await load<{
  traffic (app: App): Traffic
  redisCpu (traffic: Traffic, costs: Costs): number
  shardsNeeded (app: App, costs: Costs, share: number): number | undefined
  carried (appAt: (count: number) => App, costs: Costs, share: number): number
}>('model')

/** ms: the benchmark starts many processes. */
const TIMEOUT = 120_000
const build = join(t.testdir(), 'build')
const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

t.setTimeout(TIMEOUT)

t.test('a channel reaches as many instances as its members are likely to be on', async t => {
  t.equal(instancesReached(1, 50), 1, 'one instance has every channel once')
  t.ok(Math.abs(instancesReached(1_000, 1) - 1) < 1e-9, 'one member is on one instance')
  t.equal(instancesReached(10, 0), 0)
  const sizes = [2, 10, 1_000].flatMap(instances => [2, 50, 5_000].map(members => ({ instances, members })))
  const wrong = (isRight: (reached: number, instances: number, members: number) => boolean) => {
    return sizes.filter(({ instances, members }) => !isRight(instancesReached(instances, members), instances, members))
  }
  t.strictSame(wrong((reached, instances, members) => reached <= Math.min(instances, members)), [], 'never more than there are of either')
  t.strictSame(wrong((reached, instances, members) => reached < instancesReached(instances + 1, members)), [], 'more with more instances')
  t.strictSame(wrong((reached, instances, members) => instancesReached(instances, members - 1) <= reached), [], 'not fewer with more')
  t.ok(instancesReached(1e9, 50) > 49.99, 'on very many instances all members are apart')
})

t.test('the formula agrees with a simulation', async t => {
  for (const [instances, members] of [[4, 8], [100, 50], [1_000, 50], [1_000, 2]] as const) {
    const app = { instances, connections: members * 2_000, channels: 2_000, perConnection: 1 }
    for (const how of ['chance', 'full'] as const) {
      const drawn = drawReach(app, seededRandom(1), how)
      t.equal(drawn.length, 2_000)
      t.ok(drawn.every(count => count >= 1 && count <= Math.min(instances, members)))
      const error = mean(drawn) / instancesReached(instances, members) - 1
      t.ok(Math.abs(error) < 0.02, `${instances} instances, ${members} members, ${how}: ${mean(drawn)}`)
    }
  }
  const drawAgain = () => drawReach({ instances: 7, connections: 50, channels: 5, perConnection: 2 }, seededRandom(3))
  t.strictSame(drawAgain(), drawAgain(), 'the same seed gives the same')
  t.strictSame(drawReach({ instances: 1, connections: 50, channels: 5, perConnection: 1 }, seededRandom(3)), [1, 1, 1, 1, 1])
})

t.test('the model counts the subscriptions, messages, bytes and links that an app needs of Redis', async t => {
  const room = { instances: 1_000, connections: 250_000, channels: 1, publications: 10 }
  const { subscriptions, messages, deliveries, links } = traffic(room)
  t.ok(Math.abs(subscriptions - 2_000) < 1e-6, 'the room and the commands of the others, on every instance')
  t.ok(Math.abs(messages - 10_000) < 1e-6)
  t.equal(deliveries, 2_500_000)
  t.equal(links, 2_000)
  t.ok(Math.abs(traffic({ ...room, channels: 250_000 }).subscriptions - 251_000) < 1e-3, 'a channel per user has one subscription')
  t.ok(traffic({ ...room, history: true }).bytesIn > traffic(room).bytesIn)
  t.ok(traffic({ ...room, presence: true }).bytesIn > traffic(room).bytesIn)
  t.ok(traffic({ ...room, payload: 1_000 }).bytesOut > traffic(room).bytesOut)
})

t.test('an app that is too much for one Redis needs two shards, and one channel can be too much for any number', async t => {
  const names = [
    'redis', 'ping', 'publish', 'publishWithHistory', 'beginEpoch', 'message', 'readPosition', 'record', 'addMembers', 'member', 'removeMember',
    'countUpgrade', 'subscribe', 'unsubscribe', 'clientInfo'
  ]
  const costs = Object.fromEntries(names.map(name => [name, 10]))
  const rooms = (instances: number) => {
    return { instances, connections: instances * 250, channels: instances * 5, publications: instances * 10, history: true }
  }
  const full = carried(rooms, costs, 1)
  t.ok(redisCpu(traffic(rooms(full)), costs) <= 1e6)
  t.ok(redisCpu(traffic(rooms(full + 1)), costs) > 1e6)
  t.equal(shardsNeeded(rooms(full), costs, 1), 1)
  t.equal(shardsNeeded(rooms(full + 1), costs, 1), 2)
  const oneChannel = { instances: 1_000, connections: 250_000, channels: 1, publications: 200 }
  t.equal(shardsNeeded(oneChannel, costs, 1), undefined, 'a channel is on one shard')
})

t.test('Redis and the clients count what the model predicts', async t => {
  await buildPackage(build)
  const args = ['bench/scale.mjs', '--quick', '--instances', '2', '--plugin', join(build, 'dist/index.js')]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  const rows = stdout.split('\n').filter(line => /^\| 2 \| (yes|no) \|/.test(line))
  t.equal(rows.length, 4, 'with and without history, two tables')
  const numberOf = (text = '') => Number(text.replaceAll(',', ''))
  const pairs = rows.map(row => Array.from(row.matchAll(/([\d,]+) \/ ([\d,]+) \(/g), ([, predicted, measured]) => {
    return { row, predicted: numberOf(predicted), measured: numberOf(measured) }
  }))
  t.strictSame(pairs.filter(({ length }) => length < 2), [], 'every row has at least two pairs of numbers')
  t.strictSame(pairs.flat().filter(({ predicted, measured }) => !(Math.abs(measured / predicted - 1) < 0.05)), [])
  t.match(stdout, /\n\| chat in rooms of 50 \| 1,000 x 250 \| 244,972 \|/)
})
