// Instances, clients and publications for real, to compare what Redis and the clients count with what the model says.
import { setTimeout as wait } from 'node:timers/promises'
import { Cluster } from './cluster.mjs'
import { Crowd } from './crowd.mjs'
import { MESSAGE_BYTES } from './message.mjs'
import { rateOf, redisCpu, traffic } from './model.mjs'
import { sum } from './numbers.mjs'
import { drawReach, placeConnections, seededRandom } from './placement.mjs'

const SEED = 7
/** ms until instances that have just started do no more than usual. */
const SETTLE = 500
/** Seconds of the quiet time: members are refreshed every 20 s and positions read every 40 s. */
export const QUIET = 80
/** Seconds before the quiet time, so that it begins between two of those. */
const BEFORE_QUIET = 12

/** What the servers of bench/servers/plugin.mjs do. */
const rulesOf = ({ history, presence }) => ({ server: 'plugin', env: { ...history && { BENCH_HISTORY: '1' }, ...presence && { BENCH_PRESENCE: '1' } } })

const mean = values => values.reduce((total, value) => total + value, 0) / values.length

async function withCluster (app, { redis, plugin, counters }, run) {
  await counters.client.sendCommand(['FLUSHALL'])
  const cluster = new Cluster(rulesOf(app), { redis, plugin, instances: app.instances })
  const crowd = new Crowd(await cluster.call('port'), app.channels)
  try {
    await wait(SETTLE)
    return await run(cluster, crowd)
  } finally {
    crowd.leave()
    await cluster.stop()
  }
}

/**
 * Publishes to clients placed by chance. Of each quantity there is `formula`, `simulation` (with the very placement)
 * and `measured`.
 */
export function publishAndCount (given, setup, { rate, total, busyRate }) {
  const sequence = total / given.channels / (given.history ? 1 : given.instances)
  // Nobody goes while it is measured. These servers do not count upgrades in Redis. Messages are those of
  // bench/message.mjs.
  const app = { ...given, payload: MESSAGE_BYTES, age: Infinity, countUpgrades: false, sequence }
  return withCluster(app, setup, async (_, crowd) => {
    const { counters } = setup
    await crowd.openPublishers()
    await crowd.gather(app, placeConnections(app, seededRandom(SEED)))
    const subscribers = await counters.subscribers()
    const expected = total * app.connections * app.perConnection / app.channels
    const pairs = app.channels * app.instances // of publishers and channels: the first publication of each costs more
    await crowd.publish({ rate: busyRate, total: pairs, expected: pairs * expected / total })
    const counted = await counters.during(() => crowd.publish({ rate, total, expected }))
    const busy = await counters.during(() => crowd.publish({ rate: busyRate, total: busyRate, expected: busyRate * expected / total }))
    return {
      app,
      busy: {
        rate: busyRate,
        model: redisCpu(traffic({ ...app, publications: busyRate / busy.time }), setup.costs) * busy.time,
        measured: busy.cpu
      },
      ...compare(app, { counted, subscribers, total })
    }
  })
}

function compare (app, { counted, subscribers, total }) {
  const of = reach => traffic({ ...app, publications: total / counted.time }, reach)
  const formula = of()
  const simulation = of(mean(drawReach(app, seededRandom(SEED))))
  const rooms = subscribers.filter(({ name }) => name.includes('{room'))
  const quantity = (measured, ask) => ({ formula: ask(formula), simulation: ask(simulation), measured })
  const during = (rate, { time }) => rate * time
  const evalsha = model => rateOf(model, 'publishWithHistory', 'beginEpoch', 'record', 'readPosition')
  return {
    subscriptions: quantity(sum(subscribers, 'count'), model => model.subscriptions),
    publishes: quantity(counted.calls('publish'), () => total),
    scripts: quantity(counted.calls('evalsha'), model => during(evalsha(model), counted)),
    // Publications go to the channels in turn.
    messages: quantity(sum(rooms, 'count') * total / app.channels, model => during(model.messages, counted)),
    bytesIn: quantity(counted.bytesIn, model => during(model.bytesIn, counted)),
    bytesOut: quantity(counted.bytesOut, model => during(model.bytesOut, counted)),
    deliveries: quantity(counted.result.received, model => during(model.deliveries, counted)),
    clientBytes: quantity(counted.result.bytes, model => during(model.clientBytes, counted))
  }
}

/** What instances with clients ask of Redis when nothing is published. Inner commands tell the scripts apart. */
export function stayQuiet (given, setup) {
  const app = { ...given, publications: 0, sequence: 0, age: Infinity, countUpgrades: false }
  return withCluster(app, setup, async (cluster, crowd) => {
    await crowd.gather(app, placeConnections(app, seededRandom(SEED)))
    await wait(1_000 * BEFORE_QUIET)
    const before = await cluster.figures()
    const counted = await setup.counters.during(() => wait(1_000 * QUIET))
    const cpu = (await cluster.figures()).cpu - before.cpu
    const model = traffic(app, mean(drawReach(app, seededRandom(SEED))))
    const times = rate => rate * counted.time
    const members = model.commands.filter(({ kind }) => kind === 'addMembers').reduce((count, { rate, members }) => count + rate * members, 0)
    const rows = [
      { name: 'pings (`PING`)', predicted: times(rateOf(model, 'ping')), measured: counted.calls('ping') },
      { name: 'presence refreshes and instance records (scripts with `TIME`)', predicted: times(rateOf(model, 'addMembers', 'record')), measured: counted.calls('time') },
      { name: 'members in those (`ZADD`)', predicted: times(members + rateOf(model, 'record')), measured: counted.calls('zadd') },
      { name: 'positions read (`HMGET`)', predicted: times(rateOf(model, 'readPosition')), measured: counted.calls('hmget') },
      { name: 'bytes to Redis', predicted: times(model.bytesIn), measured: counted.bytesIn },
      { name: 'bytes from Redis', predicted: times(model.bytesOut), measured: counted.bytesOut }
    ]
    return { rows, cpu, time: counted.time }
  })
}
