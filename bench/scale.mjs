// Scale on paper: the model's unit costs, its counts against real instances, and what it says of a thousand. See README.md.
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
import { publishAndCount, stayQuiet } from './scale-run.mjs'
import { instanceCosts, redisCosts } from './unit-costs.mjs'

const options = readOptions({
  instances: '1,2,3,4',
  clients: 240,
  channels: 60,
  'per-client': 2,
  rate: 200,
  publications: 1_200,
  quiet: 2,
  commands: 8_000,
  seconds: 4,
  plugin: defaultPlugin
}, { instances: '1,2', clients: 60, channels: 30, rate: 300, publications: 600, quiet: 0, commands: 400, seconds: 0.5 })
/** Of a core that a Redis is to be used at the most: the rest is for what comes in bursts, and for an instance's clients that all come back at once. */
const SHARE = 0.6
const FLEETS = [[1, 250], [10, 250], [100, 250], [1_000, 250], [264, 950], [1_000, 950]]
/** Connections that the simulation places to check the formula, in as many draws as that takes. */
const PLACEMENTS = options.quick ? 1 : 1_000_000

const mean = values => values.reduce((total, value) => total + value, 0) / values.length
const deviation = (predicted, measured) => `${measured >= predicted ? '+' : ''}${(100 * (measured / predicted - 1)).toFixed(1)} %`

function printCosts (costs) {
  const micro = us => us.toFixed(1)
  const { redis, ping, publish, publishAlone, publishWithHistory, message, messageTogether, readPosition, addMembers, member, removeMember, countUpgrade, subscribe, unsubscribe } = costs
  const rows = [
    ['PUBLISH', micro(publish)], ['the same, one at a time', micro(publishAlone)], ['publication with history', micro(publishWithHistory)],
    ['message to a subscriber, in a write of its own', micro(message)], ['the same, several in one write', micro(messageTogether)], ['position read', micro(readPosition)],
    ['member added or refreshed', micro(addMembers)], ['each further member of that call', micro(member)], ['member removed', micro(removeMember)], ['upgrade counted', micro(countUpgrade)],
    ['SUBSCRIBE', micro(subscribe)], ['UNSUBSCRIBE', micro(unsubscribe)], ['PING', micro(ping)], ['a second of its own work', micro(redis)]
  ]
  printMarkdown(['CPU of Redis for', 'us'], rows, 1)
  console.log('')
  const bytes = ['linkBytes', 'subscriptionBytes', 'channelBytes', 'entryBytes', 'memberBytes'].map(name => format(Math.round(costs[name])))
  printMarkdown(['memory of Redis for', 'bytes'], ['a link', 'a subscription', "a channel's position and stream", 'a publication kept, beside its payload', 'a member'].map((name, i) => [name, bytes[i]]), 1)
  console.log('')
  const { instance, published, received, delivery, coming } = costs
  printMarkdown(['CPU of an instance for', 'us'], [['a second of its own work', instance], ['a publication it sends', published], ['a publication it receives', received], ['a delivery to a client', delivery], ['a client that comes', coming], ['a second of a silent client', costs.connection]].map(([name, us]) => [name, micro(us)]), 1)
  console.log('')
}

const COUNTED = [
  ['subscriptions', 'subscriptions'], ['PUBLISH', 'publishes'], ['scripts', 'scripts'], ['messages', 'messages'], ['bytes to Redis', 'bytesIn'], ['bytes from Redis', 'bytesOut'],
  ['deliveries', 'deliveries'], ['bytes to clients', 'clientBytes']
]

/** What was predicted and what was counted. Of a few there is no deviation worth a word. */
function pair (predicted, measured) {
  const both = `${format(Math.round(predicted))} / ${format(Math.round(measured))}`
  return predicted < 20 ? both : `${both} (${deviation(predicted, measured)})`
}

function countedCells ({ app, ...quantities }) {
  const cells = COUNTED.map(([, name]) => {
    const { formula, measured } = quantities[name]
    return pair(formula, measured)
  })
  return [app.instances, app.history ? 'yes' : 'no', ...cells]
}

async function printCounted (setup) {
  const rows = []
  for (const instances of list(options.instances).map(Number)) {
    for (const history of [false, true]) {
      console.error(`${instances} instances, ${history ? 'with' : 'without'} history`)
      const app = describeApp({ instances, connections: options.clients, channels: options.channels, perConnection: options['per-client'], history })
      rows.push(await publishAndCount(app, setup, { rate: options.rate, total: options.publications }))
    }
  }
  printMarkdown(['instances', 'history', ...COUNTED.map(([heading]) => heading)], rows.map(countedCells), 2)
  console.log('')
  printMarkdown(['instances', 'history', 'subscriptions, by the simulation', 'messages, by the simulation', 'CPU of Redis, ms', 'of the instances, us per delivery'], rows.map(({ app, subscriptions, messages, redisCpu, cpu, deliveries }) => [
    app.instances, app.history ? 'yes' : 'no', pair(subscriptions.simulation, subscriptions.measured), pair(messages.simulation, messages.measured),
    pair(redisCpu.formula / 1_000, redisCpu.measured / 1_000), (cpu / deliveries.measured).toFixed(1)
  ]), 2)
  console.log('')
}

/** The formula against placements by chance, at sizes that nobody starts. */
function printSimulation () {
  const rows = [[10, 50], [100, 50], [1_000, 50], [1_000, 2], [1_000, 1_000]].map(([instances, members]) => {
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

async function printQuiet (app, setup) {
  console.error(`${options.quiet} instances, quiet for a minute`)
  const { rows, cpu, time } = await stayQuiet(app, setup)
  printMarkdown(['in a quiet minute', 'model', 'counted', 'deviation'], rows.map(({ name, predicted, measured }) => [name, format(Math.round(predicted)), format(measured), deviation(predicted, measured)]), 1)
  console.log('')
  return Math.max(0, cpu / time - setup.costs.instance * app.instances) / app.connections
}

endByExit()
describeMachine()
const redis = await startRedis()
const counters = await RedisCounters.of(redis)
try {
  console.error('unit costs')
  const setup = { redis, counters, plugin: options.plugin }
  const costs = setup.costs = { ...await redisCosts(redis, counters, options.commands), ...await instanceCosts(setup, { clients: options.clients, seconds: options.seconds }), connection: 0 }
  await printCounted(setup)
  if (options.quiet > 0) {
    costs.connection = await printQuiet(describeApp({ instances: options.quiet, connections: options.clients, channels: options.channels, perConnection: options['per-client'], history: true, presence: true }), setup)
  }
  printSimulation()
  printCosts(costs)
  printPaper(costs, { fleets: FLEETS, share: SHARE })
} finally {
  counters.close()
  await redis.stop()
}
