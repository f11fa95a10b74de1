// Scale on paper: the model's unit costs, its counts against real instances, and what it says of a thousand.
// See README.md.
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { describeApp } from './model.mjs'
import { format, list } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { drawReach, instancesReached, seededRandom } from './placement.mjs'
import { startRedis } from './redis.mjs'
import { RedisCounters } from './redis-counters.mjs'
import { printPaper } from './scale-paper.mjs'
import { publishAndCount, QUIET, stayQuiet } from './scale-run.mjs'
import { deviation, printCosts, printCounted, printPlacedAndBusy, printQuiet } from './scale-tables.mjs'
import { instanceCosts, redisCosts } from './unit-costs.mjs'

const options = readOptions({
  instances: '1,2,3,4',
  clients: 240,
  channels: 60,
  'per-client': 2,
  rate: 400,
  publications: 1_200,
  busy: 2_000,
  quiet: 2,
  commands: 8_000,
  seconds: 4,
  plugin: defaultPlugin
}, { instances: '1,2', clients: 120, channels: 30, rate: 300, publications: 300, busy: 200, quiet: 0, commands: 200, seconds: 0.2 })
/**
 * Share of a core that a Redis is to use at the most. The rest is for bursts, and for an instance's clients that all
 * come back at once.
 */
const SHARE = 0.6
/** 900 and 600: to what Cloud Run's autoscaler fills an instance at a target of 0.9, and by default. */
const FLEETS = [[1, 250], [10, 250], [100, 250], [1_000, 250], [417, 600], [278, 900], [1_000, 900]]
/** Connections that the simulation places to check the formula, in as many draws as that takes. */
const PLACEMENTS = options.quick ? 1 : 1_000_000

const crowd = describeApp({ connections: options.clients, channels: options.channels, perConnection: options['per-client'] })

const mean = values => values.reduce((total, value) => total + value, 0) / values.length

/** The formula against placements by chance, at sizes that nobody starts. */
function printSimulation () {
  const sizes = options.quick ? [[10, 50], [100, 50]] : [[10, 50], [100, 50], [1_000, 50], [1_000, 2], [1_000, 1_000]]
  const rows = sizes.map(([instances, members]) => {
    const app = { instances, connections: instances * 250, channels: instances * 250 / members, perConnection: 1 }
    const draws = Math.ceil(PLACEMENTS / app.connections)
    const draw = how => mean(Array.from({ length: draws }, (_, seed) => mean(drawReach(app, seededRandom(seed), how))))
    const formula = instancesReached(instances, members)
    const [chance, full] = [draw('chance'), draw('full')]
    return [format(instances), members, formula.toFixed(2), `${chance.toFixed(2)} (${deviation(formula, chance)})`, `${full.toFixed(2)} (${deviation(formula, full)})`]
  })
  printMarkdown(['instances', 'members of a channel', 'instances reached: formula', 'simulation, by chance', 'simulation, all instances equally full'], rows, 2)
  console.log('')
}

async function countTraffic (setup) {
  const rows = []
  for (const instances of list(options.instances).map(Number)) {
    for (const history of [false, true]) {
      console.error(`${instances} instances, ${history ? 'with' : 'without'} history`)
      rows.push(await publishAndCount({ ...crowd, instances, history }, setup, {
        rate: options.rate,
        total: options.publications,
        busyRate: options.busy
      }))
    }
  }
  printCounted(rows)
  printPlacedAndBusy(rows)
}

/** Gives the us per second of a silent client. */
async function countQuiet (setup) {
  console.error(`${options.quiet} instances, quiet for ${QUIET} s`)
  const { rows, cpu, time } = await stayQuiet({ ...crowd, instances: options.quiet, history: true, presence: true }, setup)
  printQuiet(rows, QUIET)
  return Math.max(0, cpu / time - setup.costs.instance * options.quiet) / options.clients
}

endByExit()
describeMachine()
const redis = await startRedis()
const counters = await RedisCounters.of(redis)
try {
  console.error('unit costs')
  const setup = { redis, counters, plugin: options.plugin }
  const costs = setup.costs = {
    ...await redisCosts(redis, counters, options.commands),
    ...await instanceCosts(setup, { clients: options.clients, seconds: options.seconds }),
    connection: 0
  }
  await countTraffic(setup)
  if (options.quiet > 0) costs.connection = await countQuiet(setup)
  printSimulation()
  printCosts(costs)
  printPaper(costs, { fleets: FLEETS, share: SHARE })
} finally {
  counters.close()
  await redis.stop()
}
