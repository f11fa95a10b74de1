// What an app does to Redis and to its instances, per second, by calculation alone. bench/README.md says what the
// model is, and how it was checked against what Redis and the clients count.
import { instancesReached } from './placement.ts'
import { clientBytes, redisBytes } from './redis-bytes.ts'
import type { CommandBytes, CommandKind, Sizes } from './redis-bytes.ts'

/** All that an app is. */
export interface App extends Required<Sizes> {
  instances: number
  connections: number
  channels: number
  /** Channels of each connection. */
  perConnection: number
  /** Per second, in all channels together. */
  publications: number
  shards: number
  historySize: number
  presence: boolean
  joinLeave: boolean
  countUpgrades: boolean
  /** Seconds that a connection lives. */
  age: number
}

export interface Command {
  for: 'publications' | 'comings' | 'upkeep' | 'positions' | 'presence'
  kind: CommandKind
  rate: number
  members: number
  bytesIn: number
  bytesOut: number
}

export interface Traffic {
  /** Instances that have a member of a channel. */
  reach: number
  subscriptions: number
  shards: number
  links: number
  commands: Command[]
  /** From Redis to instances, each of which hands it to all its members of the channel. */
  messages: number
  bytesIn: number
  bytesOut: number
  /** From instances to clients. */
  deliveries: number
  clientBytes: number
  /** Connections that come. As many go. */
  comings: number
}

/** Seconds between what the instances do by themselves, as in lib: redis/link.ts, heartbeat.ts, presence.ts. */
const PING = 1
const RECORD = 5
const REFRESH = 20
const EPOCH = 10
/**
 * Seconds without a publication after which a channel's position is read, and between further reads. The broker looks
 * every 10 s whether its 30 s are over. They begin anew with the answer, a moment after such a look.
 */
const FIRST_CHECK = 35
const NEXT_CHECK = 40
/** Seconds a connection lives by default: 57 minutes less up to a tenth. */
const AGE = 57 * 60 * 0.95
/** Members in one call of a script. */
const BATCH = 500
/** Links of an instance to one Redis: for commands and for messages. */
const LINKS = 2

const defaults: App = {
  instances: 1,
  connections: 250,
  channels: 1,
  perConnection: 1,
  publications: 1,
  payload: 128,
  shards: 1,
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

export function describeApp (given: Partial<App>): App {
  return { ...defaults, ...given }
}

/** `reach`: instances that have a member of a channel, if that is known better than by the formula. */
export function traffic (given: Partial<App>, reach?: number): Traffic {
  const app = describeApp(given)
  const members = app.connections * app.perConnection / app.channels
  const reached = reach ?? instancesReached(app.instances, members)
  const subscriptions = app.channels * reached
  const comings = app.connections / app.age
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

function total (commands: readonly Command[], name: 'bytesIn' | 'bytesOut'): number {
  return commands.reduce((sum, command) => sum + command[name], 0)
}

type Rate = Pick<Command, 'for' | 'kind' | 'rate'> & { members?: number }
interface Flow { subscriptions: number, comings: number, members: number, events: number }

function commandsOf (app: App, { subscriptions, comings, members, events }: Flow): Rate[] {
  const { instances, shards, history, presence, perConnection } = app
  const memberships = comings * perConnection
  // Who comes where nobody else is subscribes, who goes from where nobody else is unsubscribes.
  const alone = memberships * (instances === 1 ? 0 : (1 - 1 / instances) ** (members - 1))
  const perInstance = presence ? app.connections * perConnection / subscriptions : 0
  const calls = Math.max(1, Math.ceil(perInstance / BATCH))
  const rates: Rate[] = [
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
  ]
  return rates.filter(({ rate }) => rate > 0)
}

/** Reads of a channel's position per second and subscription, with so many publications per second by chance. */
function checks (publications: number): number {
  if (publications === 0) return 1 / NEXT_CHECK
  return publications * Math.exp(-FIRST_CHECK * publications) / -Math.expm1(-NEXT_CHECK * publications)
}

function withBytes (command: Rate, { in: bytesIn, out, perMember = 0 }: CommandBytes): Command {
  const { rate, members = 0 } = command
  return { ...command, members, bytesIn: rate * (bytesIn + perMember * members), bytesOut: rate * out }
}
