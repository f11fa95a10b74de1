// The tables of what was measured, and of what was counted beside what the model says.
import { printMarkdown } from './markdown.mjs'
import { format } from './numbers.mjs'

export const deviation = (predicted, measured) => `${measured >= predicted ? '+' : ''}${(100 * (measured / predicted - 1)).toFixed(1)} %`

/** What was predicted and what was counted. Of a few there is no deviation worth a word. */
function pair (predicted, measured) {
  const both = `${format(Math.round(predicted))} / ${format(Math.round(measured))}`
  return predicted < 20 ? both : `${both} (${deviation(predicted, measured)})`
}

const yesOrNo = history => history ? 'yes' : 'no'

const COUNTED = [
  ['subscriptions', 'subscriptions'],
  ['PUBLISH', 'publishes'],
  ['scripts', 'scripts'],
  ['messages', 'messages'],
  ['bytes to Redis', 'bytesIn'],
  ['bytes from Redis', 'bytesOut'],
  ['deliveries', 'deliveries'],
  ['bytes to clients', 'clientBytes']
]

/** Model / counted. */
export function printCounted (rows) {
  const cells = row => COUNTED.map(([, name]) => pair(row[name].formula, row[name].measured))
  printMarkdown(['instances', 'history', ...COUNTED.map(([heading]) => heading)], rows.map(row => [row.app.instances, yesOrNo(row.app.history), ...cells(row)]), 2)
  console.log('')
}

/** The same placement in the simulation, and CPU, which no count is exact for. */
export function printPlacedAndBusy (rows) {
  const ms = us => format(Math.round(us / 1_000))
  printMarkdown(['instances', 'history', 'subscriptions, by the simulation', 'messages, by the simulation', `CPU of Redis at ${format(rows[0].busy.rate)} publications/s, ms: model, a system call each`, 'measured'], rows.map(({ app, subscriptions, messages, busy }) => [
    app.instances,
    yesOrNo(app.history),
    pair(subscriptions.simulation, subscriptions.measured),
    pair(messages.simulation, messages.measured),
    ms(busy.model),
    ms(busy.measured)
  ]), 2)
  console.log('')
}

export function printQuiet (rows, seconds) {
  printMarkdown([`in ${seconds} quiet seconds`, 'model', 'counted', 'deviation'], rows.map(({ name, predicted, measured }) => [name, format(Math.round(predicted)), format(measured), deviation(predicted, measured)]), 1)
  console.log('')
}

const REDIS_CPU = [
  ['PUBLISH', 'publish'],
  ['a publication with history', 'publishWithHistory'],
  ['an epoch ended that is not there', 'beginEpoch'],
  ['a message to a subscriber, in a write of its own', 'message'],
  ['the same, several in one write', 'messageTogether'],
  ['a position read', 'readPosition'],
  ['a member added or refreshed', 'addMembers'],
  ['each further member of that call', 'member'],
  ['a member removed', 'removeMember'],
  ['an upgrade counted', 'countUpgrade'],
  ['SUBSCRIBE', 'subscribe'],
  ['UNSUBSCRIBE', 'unsubscribe'],
  ['PING', 'ping'],
  ['a second of its own work', 'redis']
]
const REDIS_MEMORY = [
  ['a link', 'linkBytes'],
  ['a subscription', 'subscriptionBytes'],
  ["a channel's position, and its stream with one publication", 'channelBytes'],
  ['each further publication kept, beside its payload', 'entryBytes'],
  ['a member', 'memberBytes']
]
const INSTANCE_CPU = [
  ['a second of its own work', 'instance'],
  ['a publication it sends', 'published'],
  ['a publication it receives', 'received'],
  ['a delivery to a client', 'delivery'],
  ['a client that comes', 'coming'],
  ['a second of a silent client', 'connection']
]

export function printCosts (costs) {
  const table = (heading, unit, rows, text) => {
    printMarkdown([heading, unit], rows.map(([label, name]) => [label, text(costs[name])]), 1)
    console.log('')
  }
  table('CPU of Redis for', 'us', REDIS_CPU, us => us.toFixed(1))
  table('memory of Redis for', 'bytes', REDIS_MEMORY, bytes => format(Math.round(bytes)))
  table('CPU of an instance for', 'us', INSTANCE_CPU, us => us.toFixed(1))
}
