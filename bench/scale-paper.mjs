// The paper part: what apps need that nobody can start here.
import { printMarkdown } from './markdown.mjs'
import { carried, hottestChannel, instanceCpu, redisCpu, redisMemory, shardsNeeded, traffic } from './model.mjs'
import { format } from './numbers.mjs'
import { egressPrice, instancesPrice, redisPrice } from './prices.mjs'
import { apps, size } from './scale-apps.mjs'

const MIB = 1_048_576
const GIB = 1_073_741_824
/** Resident memory of an idle connection, from `npm run bench`. */
const CONNECTION_BYTES = 7 * 1_024

const rounded = number => format(number < 10 ? Number(number.toPrecision(2)) : Math.round(number))
const dollars = number => number === undefined ? '-' : `$${format(Math.round(number))}`
/** us per second, in percent of a core. */
const percent = cpu => `${rounded(cpu / 1e4)} %`

/** `fleets`: numbers of instances and of connections each. `share`: of a core that a Redis is to take at the most. */
export function printPaper (costs, { fleets, share }) {
  const rows = apps.flatMap(({ name, at }) => fleets.map(([instances, each]) => ({ name, instances, each, app: at(instances, each) })))
  for (const row of rows) row.model = traffic(row.app)
  printMarkdown(['app', 'instances x connections', 'subscriptions', 'publications/s', 'commands/s', 'messages/s', 'MB/s to, from Redis', 'Redis CPU, of one core', 'Redis memory, MiB', `shards at ${100 * share} %`],
    rows.map(row => redisCells(row, costs, share)), 2)
  console.log('')
  printMarkdown(['app', 'instances x connections', 'deliveries/s', 'MB/s to clients', 'CPU of an instance, of one core', 'its memory, MiB', 'instances, a month', 'Redis, a month', 'egress, a month', 'per connection without egress'],
    rows.map(row => instanceCells(row, costs, share)), 2)
  console.log('')
  printParts(costs)
  printLimits(costs, share)
}

function redisCells ({ name, instances, each, app, model }, costs, share) {
  return [
    name,
    `${format(instances)} x ${format(each)}`,
    rounded(model.subscriptions),
    rounded(app.publications),
    rounded(model.commands.reduce((sum, { rate }) => sum + rate, 0)),
    rounded(model.messages),
    `${rounded(model.bytesIn / 1e6)}, ${rounded(model.bytesOut / 1e6)}`,
    percent(redisCpu(model, costs)),
    rounded(redisMemory(app, model, costs) / MIB),
    shardsText(app, costs, share)
  ]
}

/** Between what it is when several messages leave in one write, and when each has its own. */
function shardsText (app, costs, share) {
  const [least, most] = [costs.messageTogether, costs.message].map(message => shardsNeeded(app, { ...costs, message }, share))
  if (most === undefined) return `no number: one channel takes ${percent(hottestChannel(app, costs))}`
  return least === most ? most : `${least} to ${most}`
}

function instanceCells ({ name, instances, each, app, model }, costs, share) {
  const run = instancesPrice(instances, size)
  const shards = shardsNeeded(app, costs, share)
  const redis = shards === 1 ? redisPrice(redisMemory(app, model, costs) / GIB) : undefined
  return [
    name,
    `${format(instances)} x ${format(each)}`,
    rounded(model.deliveries),
    rounded(model.clientBytes / 1e6),
    percent(instanceCpu(app, model, costs) / instances),
    rounded((costs.rss + each * CONNECTION_BYTES) / MIB),
    dollars(run),
    dollars(redis),
    dollars(egressPrice(model.clientBytes)),
    `$${((run + (redis ?? 0)) / app.connections).toFixed(3)}`
  ]
}

/** What fills Redis in the largest fleet of the guide. Members that a call brings cost as the calls' own part does. */
function printParts (costs) {
  const parts = [['publications', 'publications'], ['comings', 'who comes and goes'], ['presence', 'members refreshed'], ['positions', 'positions of quiet channels'], ['upkeep', 'pings, instance records']]
  const rows = apps.map(({ name, at }) => {
    const model = traffic(at(1_000, 250))
    const cpuFor = part => redisCpu({ messages: 0, shards: 0, commands: model.commands.filter(command => command.for === part) }, costs)
    return [name, percent(model.messages * costs.message), ...parts.map(([part]) => percent(cpuFor(part)))]
  })
  printMarkdown(['app, 1,000 x 250', 'messages to instances', ...parts.map(([, label]) => label)], rows, 1)
  console.log('')
}

/** Where one core of Redis is full. */
function printLimits (costs, share) {
  const rows = apps.flatMap(({ name, at }) => [250, 600, 900].map(each => {
    const fleet = limit => {
      const count = carried(instances => at(instances, each), costs, limit)
      return `${rounded(count)} (${rounded(count * each)})`
    }
    const busy = publications => ({ ...at(1_000, each), publications })
    const publications = carried(busy, costs, 1)
    const model = traffic(busy(publications))
    const rates = publications === 0 ? ['0', '', ''] : [publications, model.messages, model.bytesOut / 1e6].map(rounded)
    return [name, each, fleet(share), fleet(1), ...rates]
  }))
  printMarkdown(['app', 'connections each', `instances (connections) that fill ${100 * share} % of a core`, 'that fill it', '1,000 instances fill it at publications/s', 'messages/s', 'MB/s from Redis'], rows, 1)
}
