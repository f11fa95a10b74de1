import { readFileSync } from 'node:fs'
import t from 'tap'
import { egressPrice } from '../../lib/cli/plan/parts.ts'
import { makePlan } from '../../lib/cli/plan/plan.ts'
import { parseOptions } from '../../lib/cli/plan/options.ts'
import { parseOverride, Prices, priceNames } from '../../lib/cli/plan/prices.ts'
import { carried, shardsNeeded } from '../../lib/cli/plan/load.ts'
import prices from '../../lib/cli/plan/prices.json' with { type: 'json' }
import costs from '../../lib/cli/plan/unit-costs.json' with { type: 'json' }
import watching from '../../lib/cli/plan/watching.json' with { type: 'json' }
import { month, planOf, platform } from '../helpers/plan.ts'

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
/** Little traffic, so that only connections count. */
const QUIET = '--messages 1 --channel-size all --history 0'

t.test("Google's autoscaler fills an instance to its target: 250,000 connections cost $21,918 at 0.6 and $14,612 at 0.9", async (t) => {
  for (const [target, perInstance, instances, dollars] of [[0.6, 600, 417, 21_918], [0.9, 900, 278, 14_612]]) {
    const made = planOf(`--connections 250000 --target ${target} ${QUIET}`)
    t.match(platform(made).instances, { perInstance, peak: instances, mean: instances, limit: 'connections' })
    t.equal(Math.round(month(made, 'instances')!), dollars)
    t.equal(month(made, 'free tier'), -5.22)
  }
})

t.test("the guide's worked example comes out with the guide's prices", async (t) => {
  const override = parseOverride(read('test/fixtures/guide-prices.json'), 'guide-prices.json')
  const size = `--vcpu 2 --memory 2 --replicas 0 ${QUIET}`
  const [cpu, memory] = (['runVcpuSecond', 'runGibSecond'] as const).map(name => new Prices('us-central1', override).times(name, 2 * 730 * 3_600)!)
  t.equal(cpu!.toFixed(2), '126.14')
  t.equal(memory!.toFixed(2), '13.14')
  t.equal(month(planOf(`--connections 250 --per-instance 250 ${size}`, override), 'instances')!.toFixed(2), '139.28')

  const made = planOf(`--connections 250000 --per-instance 250 ${size}`, override)
  t.equal(platform(made).instances.peak, 1_000)
  t.equal((month(made, 'instances')! / 250_000).toFixed(3), '0.557')
  t.equal(Math.round(month(made, 'Redis')!), 100, "between the guide's 50 and 200")
  t.equal(month(made, 'VPC connector'), 73)
  t.equal(Math.round(platform(made).month), 139_284 + 100 + 73, 'about 139,300')

  const small = month(planOf(`--connections 250 --per-instance 250 ${QUIET}`, override), 'instances')!
  t.ok(small > 69 && small < 70, '1 vCPU and 1 GB: about 69')
  const full = month(planOf(`--connections 250000 --per-instance 1000 ${size}`, override), 'instances')!
  t.equal(full / month(made, 'instances')!, 0.25, '1,000 connections on each instead of 250: a quarter')
})

t.test('fewer connections as a mean cost less, and need as much at the peak', async (t) => {
  const [all, some] = ['100%', '40%'].map(average => planOf(`--connections 90000 --average ${average}`))
  t.match(platform(all!).instances, { peak: 100, mean: 100 })
  t.match(platform(some!).instances, { peak: 100, mean: 40 })
  for (const part of ['instances', 'egress', 'metrics']) t.ok(month(some!, part)! < month(all!, part)!, part)
  t.equal(month(some!, 'Redis'), month(all!, 'Redis'), 'Redis is there for the peak')
})

t.test('where CPU is full before the connections are, instances take fewer of them', async (t) => {
  const made = planOf('--connections 10000 --messages-each 600 --channel-size 100')
  const { instances, cores } = platform(made)
  t.equal(instances.limit, 'cpu')
  t.ok(instances.perInstance < 900)
  t.ok(cores <= 0.6)
  t.ok(made.warnings.some(warning => warning.startsWith('CPU is the limit')))
  t.equal(platform(planOf('--connections 100 --messages 100000 --channel-size all')).instances.perInstance, 1, 'never fewer than one')
})

t.test('Redis is as large, and has as many shards, as the load takes', async (t) => {
  const redisOf = (args: string, region?: string) => platform(planOf(`${args} ${region ?? ''}`)).redis
  t.match(redisOf('--connections 20000'), { product: 'Memorystore for Valkey, cluster mode disabled', nodeType: 'standard-small', shards: 1 })
  t.match(redisOf('--connections 250000 --target 0.6'), { product: 'Memorystore for Valkey, cluster', shards: 5, month: 5 * 2 * 730 * 0.1425 })
  t.match(redisOf('--connections 200000 --channel-size 1 --history 100'), { nodeType: 'highmem-medium', shards: 1 })
  t.match(redisOf('--connections 900000 --channel-size 1 --history 100 --messages 1'), { nodeType: 'highmem-medium', shards: 3 }, 'by memory alone')
  t.match(redisOf('--connections 10000000 --channel-size 1 --history 10000 --messages 1'), { shards: undefined, month: undefined }, 'more than there are')
  t.match(redisOf('--connections 5000 --replicas 0 --redis redis'), { product: 'Memorystore for Redis, Basic tier', nodeType: '1 GiB', month: 730 * 0.049 })
  t.match(redisOf('--connections 5000 --redis redis'), { product: 'Memorystore for Redis, Standard tier', month: undefined })
  t.match(redisOf('--connections 250000 --redis redis --replicas 0'), { shards: undefined, month: undefined })
  t.ok(redisOf('--connections 20000 --presence --sdk').load.commands > redisOf('--connections 20000').load.commands)
})

t.test('what one core of Redis carries is said in connections', async (t) => {
  const { load, oneCore } = platform(planOf('--connections 90000')).redis
  t.ok(oneCore.at60Percent > 60_000 && oneCore.at60Percent < 90_000)
  t.ok(oneCore.full > oneCore.at60Percent)
  t.ok(load.coresAtBest < load.cores)
  t.equal(carried(() => ({ publications: 1e9 }), costs.redis, 1), 0, 'none, if one is too many')
})

t.test('a channel that no shard carries is a warning, and its Redis has no price', async (t) => {
  const made = planOf('--connections 250000 --channel-size all --messages 1000 --per-instance 250')
  t.match(platform(made).redis, { shards: undefined, month: undefined })
  t.ok(made.warnings.some(warning => warning.startsWith('One channel alone takes ')))
  const many = { instances: 100_000, connections: 1e6, channels: 1e6, publications: 3e7 }
  t.equal(shardsNeeded(many, costs.redis, 0.6), undefined, 'more than Memorystore has')
})

t.test('the settings fit the peak', async (t) => {
  const { settings } = planOf(`--connections 72000 ${QUIET}`)
  t.match(settings, { maxInstances: 160, maxConnections: 950, subnet: { prefix: 22, addresses: 640 } }, 'twice the 80 of the peak, as docs/rollouts.md says')
  t.ok(settings.flags.includes('--max=160'))
  t.ok(settings.flags.some(flag => flag.endsWith('CLOUD_RUN_MAX_INSTANCES=160')))
  t.equal(planOf(`--connections 720000 ${QUIET}`).settings.maxInstances, 1_000, 'a service has no more')
  t.match(planOf(`--connections 10 ${QUIET}`).settings, { maxInstances: 2, subnet: { prefix: 26 } })
  t.match(planOf('--connections 9000 --concurrency 500 --region asia-northeast1').settings, { maxConnections: 475, flags: ['--region=asia-northeast1'] })
})

t.test('the decision is the first reason of the guide that applies', async (t) => {
  const decided = (args: string) => {
    const { platform, reasons } = planOf(args).decision
    return [platform, reasons[0]!.text.split(' ').slice(0, 3).join(' ')]
  }
  t.strictSame(decided('--connections 500 --lifetime 90'), ['gke', 'Cloud Run ends'])
  t.strictSame(decided('--connections 50001'), ['gke', 'Above 50,000 connections,'])
  t.strictSame(decided('--connections 50000 --average 50%'), ['cloud-run', 'The load is'])
  t.strictSame(decided('--connections 50000 --average 20% --traffic steady --kubernetes'), ['gke', 'The load is'])
  t.strictSame(decided('--connections 50000'), ['cloud-run', 'Your team does'])
  t.strictSame(decided('--connections 10000 --kubernetes'), ['cloud-run', 'Up to 10,000'])
  t.strictSame(decided('--connections 10001 --kubernetes'), ['cloud-run', 'Between 10,000 and'])
})

t.test('the saving is the difference of two whole sums, or is not said', async (t) => {
  const made = planOf('--connections 100000')
  t.equal(made.decision.saving, platform(made).month - platform(made, 'gke').month)
  t.ok(planOf('--connections 100').decision.saving! < 0, 'a cluster costs more than one instance')
  t.equal(planOf('--region europe-west1').decision.saving, undefined, 'the price of the load balancer is not known there')
})

t.test('the migration path says where the app is, and what each stage costs', async (t) => {
  for (const [connections, stage] of [[10_000, 0], [10_001, 1], [50_001, 2]] as const) {
    t.strictSame(planOf(`--connections ${connections}`).migration.map(({ here }) => here), [0, 1, 2].map(i => i === stage))
  }
  const [, middle, above] = planOf(`--connections 250000 ${QUIET}`).migration
  t.match(middle, { connections: 50_000, cloudRun: { instances: 56 } })
  t.match(above, { connections: 250_000, cloudRun: { instances: 278 } })
})

t.test('a part without a known price is not 0: it is left out of the sum, which says so', async (t) => {
  const made = planOf('--region asia-northeast1')
  t.strictSame(platform(made).unknown, ['Redis', 'egress'])
  t.equal(month(made, 'egress'), undefined)
  t.ok(month(made, 'instances')! > 0)
  t.strictSame(platform(made, 'app-engine').unknown, ['instances', 'Redis', 'egress'])
  t.equal(platform(made, 'app-engine').deployment, undefined)
  t.ok(made.warnings.some(warning => warning.startsWith('No price is known here for: Redis, egress, load balancer, instances ')))
})

t.test("a region whose tier is not known has tier 2's prices, and a warning", async (t) => {
  const made = planOf('--region europe-north9')
  t.equal(made.prices.tier, undefined)
  t.equal(month(made, 'instances'), month(planOf('--region europe-west3'), 'instances'))
  t.ok(made.warnings.some(warning => warning.startsWith('The tier of europe-north9 is not known')))
  t.equal(month(planOf('--region europe-west1'), 'instances'), month(planOf(), 'instances'))
})

t.test('what is worth a warning has one', async (t) => {
  const has = (args: string, ...starts: string[]) => {
    const { warnings } = planOf(args)
    for (const start of starts) t.ok(warnings.some(warning => warning.startsWith(start)), `${args}: ${start}`)
  }
  has('--connections 250000', 'One Redis is not enough', 'By default a revision may have 100 to 200', 'A deployment runs', 'Without --average')
  has('--connections 600000', 'Cloud Run allows 1,000 instances per service. This needs 667 at the peak, and up to 1,334 during')
  has('--target 0.6', 'deploy.sh sets a scaling target of 0.9, and this plan has 0.6')
  has('--connections 250000 --redis redis', 'One Redis would be')
  has('--connections 10000000 --messages-each 4', 'Memorystore for Valkey has 250 shards at most')
  has('--replicas 0', 'Without a replica')
  has('--users 10000 --tabs 10', 'Each user has 10 connections. One connection per user, shared between tabs (SharedWorker), would save 90% of them.')
  has('--channel-size all --messages 10 --connections 100000', 'Egress is ')
})

t.test('egress gets cheaper by the TiB', async (t) => {
  const iowa = new Prices()
  t.equal(egressPrice(1_024, iowa), 1_024 * 0.12)
  t.equal(egressPrice(1_025, iowa), 1_024 * 0.12 + 0.11)
  t.equal(egressPrice(20_480, iowa), 1_024 * 0.12 + 9_216 * 0.11 + 10_240 * 0.08)
  t.equal(egressPrice(1, new Prices('asia-northeast1')), undefined)
  t.equal(egressPrice(0, new Prices('asia-northeast1')), 0)
})

t.test('logs and samples cost what the connections and instances write', async (t) => {
  const made = planOf(`--connections 250000 --target 0.6 ${QUIET}`)
  t.equal(month(made, 'metrics')!.toFixed(2), (417 * watching.samples * 730 * 60 * 0.06 / 1e6).toFixed(2))
  const { opened, closed, request } = watching.entryBytes
  const gib = 250_000 * 730 * 60 / 54.15 * (opened + closed + request + 1_200) / 2 ** 30
  t.ok(Math.abs(month(made, 'logs')! - (gib - 50) * 0.5) < 0.01, 'three entries of 202 million connections, and one for each request')
  t.equal(month(planOf('--connections 100'), 'logs'), 0, '50 GiB are free')
  t.ok(month(made, 'logs', 'gke')! < month(made, 'logs')!, 'connections live longer there')
})

t.test('a load balancer in front of Cloud Run costs what it costs in front of GKE, and the same data passes', async (t) => {
  const made = planOf(`--connections 9000 --load-balancer ${QUIET}`)
  t.ok(month(made, 'load balancer')! > 730 * 0.025)
  t.equal(month(made, 'load balancer'), month(made, 'load balancer', 'gke'))
  t.equal(month(planOf(), 'load balancer'), undefined)
})

t.test('pods are on nodes that hold them', async (t) => {
  t.match(platform(planOf(`--connections 28000 ${QUIET}`), 'gke'), { instances: { perInstance: 2_800, peak: 10 }, nodes: 4 })
  t.match(platform(planOf('--connections 100'), 'gke'), { instances: { peak: 3 }, nodes: 2 })
  t.match(platform(planOf(`--connections 28000 --vcpu 8 ${QUIET}`), 'gke'), { nodes: 10 })
})

t.test('every price says of what, when and from where', async (t) => {
  for (const name of priceNames) {
    const { unit, date, source } = prices.prices[name]
    t.ok(unit.length > 3)
    t.match(date, /^(\d{4}-\d\d-\d\d|unknown)$/)
    t.match((prices.sources as Record<string, { url: string, read: string }>)[source], { url: /^https:\/\//, read: /./ })
  }
  t.strictSame(prices.tiers[1].filter(region => prices.tiers[2].includes(region)), [])
  t.strictSame(new Prices().dates, { first: '2025-03-06', last: '2026-09-23' })
  const all = Object.fromEntries(priceNames.map(name => [name, 1]))
  t.strictSame(new Prices('us-central1', { prices: all }).dates, { first: '', last: '' })
})

t.test('the unit costs are those of bench/README.md', async (t) => {
  const rows = Array.from(read('bench/README.md').matchAll(/^\| ([^|]+) \| ([\d,.]+) \|$/gm), ([, label, number]) => [label, Number(number!.replaceAll(',', ''))])
  const measured = Object.fromEntries(rows)
  t.match(measured, {
    PUBLISH: costs.redis.publish,
    'a publication with history': costs.redis.publishWithHistory,
    'a message to a subscriber, in a write of its own': costs.redis.message,
    'the same, several in one write': costs.redis.messageTogether,
    'a position read': costs.redis.readPosition,
    'a member added or refreshed': costs.redis.addMembers,
    'each further member of that call': costs.redis.member,
    'a member removed': costs.redis.removeMember,
    'an upgrade counted': costs.redis.countUpgrade,
    SUBSCRIBE: costs.redis.subscribe,
    UNSUBSCRIBE: costs.redis.unsubscribe,
    PING: costs.redis.ping,
    'a link': costs.memory.linkBytes,
    'a subscription': costs.memory.subscriptionBytes,
    "a channel's position, and its stream with one publication": costs.memory.channelBytes,
    'each further publication kept, beside its payload': costs.memory.entryBytes,
    'a member': costs.memory.memberBytes,
    'a publication it sends': costs.instance.published,
    'a publication it receives': costs.instance.received,
    'a delivery to a client': costs.instance.delivery,
    'a client that comes': costs.instance.coming,
    'a second of a silent client': costs.instance.connection
  })
  t.ok(rows.some(([label, number]) => label === 'a second of its own work' && number === costs.redis.redis))
  t.match(read('bench/README.md'), /24 November 2026/)
  t.equal(costs.date, '2026-11-24')
})

t.test('the same input gives the same plan', async (t) => {
  const { input } = parseOptions([])
  t.strictSame(makePlan(input, new Prices()), makePlan(input, new Prices()))
})
