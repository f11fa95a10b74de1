// What an app does to Redis and to its instances, per second, by calculation alone. See README.md.
import { instancesReached } from './placement.mjs'
import { clientBytes, redisBytes } from './redis-bytes.mjs'

/** Seconds between what the instances do by themselves, as in lib: redis-link.ts, heartbeat.ts, presence.ts. */
const PING = 1
const RECORD = 5
const REFRESH = 20
const EPOCH = 10
/**
 * Seconds without a publication after which a channel's position is read, and between further reads. redis-broker.ts
 * looks every 10 s whether its 30 s are over. They begin anew with the answer, a moment after such a look.
 */
const FIRST_CHECK = 35
const NEXT_CHECK = 40
/** Seconds a connection lives by default: 57 minutes less up to a tenth. */
const AGE = 57 * 60 * 0.95
/** Members in one call of a script. */
const BATCH = 500
/** Links of an instance to one Redis: for commands and for messages. */
const LINKS = 2

/**
 * `perConnection`: channels of each connection. `publications`: per second in all channels together, with `payload`
 * bytes each.
 */
const shape = { instances: 1, connections: 250, channels: 1, perConnection: 1, publications: 1, payload: 128, shards: 1 }
/**
 * `sdk`: clients use the SDK route. `byClients`: the clients publish. `sequence`: number of a publication in its
 * channel, for its digits. `age`: seconds that a connection lives.
 */
const rules = {
  history: false,
  historySize: 100,
  presence: false,
  joinLeave: false,
  sdk: false,
  byClients: false,
  countUpgrades: true,
  age: AGE,
  channelBytes: 9,
  userBytes: 0,
  sequence: 1_000
}

/** All that an app is. */
export function describeApp (given) {
  return { ...shape, ...rules, ...given }
}

/**
 * Per second: `commands` is a list of { for, kind, rate, bytesIn, bytesOut, members }. Redis hands `messages` to
 * instances, which hand `deliveries` to clients. `reach`: instances that have a member of a channel, if that is known
 * better than by the formula.
 */
export function traffic (given, reach) {
  const app = describeApp(given)
  const members = app.connections * app.perConnection / app.channels
  const reached = reach ?? instancesReached(app.instances, members)
  const subscriptions = app.channels * reached
  const comings = app.connections / app.age // as many go
  const events = app.joinLeave ? 2 * comings * app.perConnection : 0
  const bytes = redisBytes(app)
  const commands = commandsOf(app, { subscriptions, comings, members, events }).map(command => withBytes(command, bytes[command.kind]))
  const messages = (app.publications + events) * reached
  return {
    reach: reached,
    subscriptions: subscriptions + app.instances, // with that of each instance to commands of the others
    shards: app.shards,
    links: LINKS * app.instances * app.shards,
    commands,
    messages,
    bytesIn: total(commands, 'bytesIn'),
    bytesOut: total(commands, 'bytesOut') + messages * bytes.message,
    deliveries: app.publications * members,
    clientBytes: app.publications * members * clientBytes(app),
    comings
  }
}

const total = (commands, name) => commands.reduce((sum, command) => sum + command[name], 0)

export const rateOf = ({ commands }, ...kinds) => commands.reduce((sum, { kind, rate }) => kinds.includes(kind) ? sum + rate : sum, 0)

function commandsOf (app, { subscriptions, comings, members, events }) {
  const { instances, shards, history, presence, perConnection } = app
  const memberships = comings * perConnection
  // Who comes where nobody else is subscribes, who goes from where nobody else is unsubscribes.
  const alone = memberships * (instances === 1 ? 0 : (1 - 1 / instances) ** (members - 1))
  const perInstance = presence ? app.connections * perConnection / subscriptions : 0
  const calls = Math.max(1, Math.ceil(perInstance / BATCH))
  return [
    { for: 'publications', kind: history ? 'publishWithHistory' : 'publish', rate: app.publications },
    // Those who publish to a channel without history are in it.
    { for: 'publications', kind: 'beginEpoch', rate: history ? 0 : Math.min(app.publications, subscriptions / EPOCH) },
    { for: 'comings', kind: 'publish', rate: events },
    { for: 'upkeep', kind: 'ping', rate: LINKS * instances * shards / PING },
    { for: 'upkeep', kind: 'clientInfo', rate: shards > 1 ? instances * shards / PING : 0 },
    { for: 'upkeep', kind: 'record', rate: instances / RECORD },
    { for: 'upkeep', kind: 'readPosition', rate: instances * checks(0) },
    { for: 'positions', kind: 'readPosition', rate: history ? subscriptions * checks(app.publications / app.channels) : 0 },
    { for: 'presence', kind: 'addMembers', rate: presence ? subscriptions * calls / REFRESH : 0, members: perInstance / calls },
    { for: 'comings', kind: 'addMembers', rate: presence ? memberships : 0, members: 1 },
    { for: 'comings', kind: 'removeMember', rate: presence ? memberships : 0 },
    { for: 'comings', kind: 'countUpgrade', rate: app.countUpgrades ? comings : 0 },
    { for: 'comings', kind: 'subscribe', rate: alone },
    { for: 'comings', kind: 'unsubscribe', rate: alone },
    // The instance's own read when it subscribes, and one for each SDK client, who is told the position it begins at.
    { for: 'comings', kind: 'readPosition', rate: history ? alone + (app.sdk ? memberships : 0) : 0 }
  ].filter(({ rate }) => rate > 0)
}

/** Reads of a channel's position per second and subscription, with so many publications per second by chance. */
function checks (publications) {
  if (publications === 0) return 1 / NEXT_CHECK
  return publications * Math.exp(-FIRST_CHECK * publications) / -Math.expm1(-NEXT_CHECK * publications)
}

function withBytes (command, { in: bytesIn, out, perMember = 0 }) {
  const { rate, members = 0 } = command
  return { ...command, members, bytesIn: rate * (bytesIn + perMember * members), bytesOut: rate * out }
}

/** us per second of all shards together. `costs`: of each kind of command, a list member, a message and a second. */
export function redisCpu ({ commands, messages, shards }, costs) {
  // What a call costs includes its first member.
  const cpuOf = ({ kind, rate, members }) => rate * ((costs[kind] ?? costs.ping) + Math.max(0, members - 1) * costs.member)
  return shards * costs.redis + messages * costs.message + commands.reduce((sum, command) => sum + cpuOf(command), 0)
}

/** us of CPU per second of all instances together. */
export function instanceCpu (given, { messages, deliveries, comings }, costs) {
  const { instances, connections, publications } = describeApp(given)
  return instances * costs.instance + connections * costs.connection + publications * costs.published +
    messages * costs.received + deliveries * costs.delivery + comings * costs.coming
}

/** Bytes that Redis holds. */
export function redisMemory (given, { subscriptions, links }, costs) {
  const { channels, connections, perConnection, payload, history, historySize, presence } = describeApp(given)
  const kept = history ? channels * (costs.channelBytes + historySize * (payload + costs.entryBytes)) : 0
  const present = presence ? connections * perConnection * costs.memberBytes : 0
  return links * costs.linkBytes + subscriptions * costs.subscriptionBytes + kept + present
}

/**
 * How many shards keep each one's core under `share`. undefined: no number of them does, because one channel alone is
 * too much for a core. Channels are taken to be evenly spread. Pings and the like go to every shard.
 */
export function shardsNeeded (given, costs, share) {
  const allowed = share * 1e6
  const single = traffic({ ...given, shards: 1 })
  if (redisCpu(single, costs) <= allowed) return 1
  if (hottestChannel(given, costs) > allowed) return undefined
  for (let shards = 2; shards <= MAX_SHARDS; shards++) {
    if (redisCpu(traffic({ ...given, shards }), costs) / shards <= allowed) return shards
  }
  return undefined
}

/** Memorystore for Valkey has no more. */
const MAX_SHARDS = 250

/** us per second of one channel: it is on one shard, however many there are. */
export function hottestChannel (given, costs) {
  const { channels, publications, history } = describeApp(given)
  const { messages } = traffic(given)
  return (publications * costs[history ? 'publishWithHistory' : 'publish'] + messages * costs.message) / channels
}

/** The largest whole number of something that one core carries, found by halves. `appAt` gives the app with so many. */
export function carried (appAt, costs, share, most = 1 << 24) {
  const fits = count => redisCpu(traffic(appAt(count)), costs) <= share * 1e6
  if (!fits(1)) return 0
  let low = 1
  let high = most
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle
  }
  return low
}
