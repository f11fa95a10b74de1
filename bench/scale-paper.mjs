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

/** Where one core of Redis is full, and what fills it. */
function printLimits (costs, share) {
  const rows = apps.flatMap(({ name, at }) => [250, 950].map(each => {
    const fleet = count => `${rounded(count)} (${rounded(count * each)})`
    const [part, whole] = [share, 1].map(limit => carried(instances => at(instances, each), costs, limit))
    const busy = publications => ({ ...at(1_000, each), publications })
    const publications = carried(busy, costs, 1)
    const model = traffic(busy(publications))
    if (publications === 0) return [name, each, fleet(part), fleet(whole), '0: all else is more', '', '', '', '', percent(redisCpu(model, costs))]
    const forMessages = model.messages * costs.message
    const forPublications = publications * costs.publishWithHistory
    return [name, each, fleet(part), fleet(whole), rounded(publications), rounded(model.messages), rounded(model.bytesOut / 1e6), percent(forMessages), percent(forPublications), percent(redisCpu(model, costs) - forMessages - forPublications)]
  }))
  printMarkdown(['app', 'connections each', `instances (connections) that fill ${100 * share} % of a core`, 'that fill it', 'with 1,000 instances it is full at publications/s', 'messages/s', 'MB/s from Redis', 'CPU for messages', 'for publications', 'for all else'], rows, 1)
}
