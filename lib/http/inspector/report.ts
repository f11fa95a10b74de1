import type { Connection } from '../../core/connection.ts'
import type { Core } from '../../core/core.ts'
import type { InstanceInfo } from '../../core/instance-registry.ts'
import type { Question } from '../../core/survey.ts'
import { checkView } from './view.ts'
import type { View } from './view.ts'

/** Connections that are shown at most, and that an instance sends at most. */
export const MAX_CONNECTIONS = 100
/** Channels that an instance sends at most. More than are shown: their clients are added up over all instances. */
const MAX_CHANNELS = 500
/** Channels that are named of one connection. */
const MAX_NAMED = 5
/** Characters of a user's id. A longer one is cut, and cannot be disconnected by it. */
const MAX_USER = 255

/** One connection as the page shows it. Durations are in milliseconds, by the clock of its instance. */
export interface ConnectionRow {
  readonly client: string
  readonly user: string
  readonly userCut: boolean
  readonly protocol: string
  /** False for an SDK that has not sent its connect command yet. */
  readonly identified: boolean
  readonly age: number
  /** The first few, and how many there are. */
  readonly channels: readonly string[]
  readonly channelCount: number
  readonly buffered: number
  readonly received: number
  readonly sent: number
  readonly bytesReceived: number
  readonly bytesSent: number
}

/** What one instance knows. */
export interface Report {
  /** `memory`: resident bytes. */
  readonly info: InstanceInfo & { readonly memory: number }
  /** Connections or channels here that match, of which the lists have the first. */
  readonly matching: number
  readonly connections: readonly ConnectionRow[]
  readonly channels: ReadonlyArray<readonly [channel: string, clients: number]>
}

/** What the page asks every instance. One that has no page itself answers, too. */
export const reports: Question<View, Report> = { name: 'inspect', isAnswer: isReport }

/**
 * Answers for this instance.
 * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_CHANNEL
 */
export function report ({ registry, connections, hub }: Pick<Core, 'registry' | 'connections' | 'hub'>, asked: unknown): Report {
  const view = checkView(asked)
  const info = { ...registry.own, memory: process.memoryUsage.rss() }
  const nothing = { info, matching: 0, connections: [], channels: [] }
  if (view.instance !== undefined && view.instance !== info.instance) return nothing
  if (view.show !== 'channels') return { ...nothing, ...connectionsOf(connections, view) }
  const named = containing(view.channel)
  const channels = Array.from(hub.sizes()).filter(([channel]) => named(channel)).sort(channelOrders[view.order === 'name' ? 'name' : 'clients'])
  return { ...nothing, matching: channels.length, channels: channels.slice(0, MAX_CHANNELS) }
}

/** By name, the first of all instances are among the first of each. By clients they mostly are. */
export const channelOrders: Record<'name' | 'clients', (a: readonly [string, number], b: readonly [string, number]) => number> = {
  name: ([a], [b]) => a < b ? -1 : 1,
  clients: ([a, ofA], [b, ofB]) => ofB - ofA || (a < b ? -1 : 1)
}

/** By these fields of a row; the largest comes first. */
const connectionOrders: Record<string, (row: Pick<ConnectionRow, 'age' | 'buffered' | 'received' | 'sent'>) => number> = {
  newest: ({ age }) => -age,
  oldest: ({ age }) => age,
  buffered: ({ buffered }) => buffered,
  received: ({ received }) => received,
  sent: ({ sent }) => sent
}

/** Compares rows of any instance, or what becomes a row. */
export function connectionOrder ({ order = 'newest' }: View) {
  const by = connectionOrders[order]!
  return (a: Sortable, b: Sortable): number => by(b) - by(a) || (a.client < b.client ? -1 : 1)
}

type Sortable = Pick<ConnectionRow, 'client' | 'age' | 'buffered' | 'received' | 'sent'>

function connectionsOf (connections: Iterable<Connection>, view: View): Pick<Report, 'matching' | 'connections'> {
  const now = Date.now()
  const fits = filterOf(view)
  const found: Array<Sortable & { connection: Connection }> = []
  for (const connection of connections) {
    if (!fits(connection)) continue
    const { id: client, connectedAt, received, sent, outbox: { bufferedBytes: buffered } } = connection
    found.push({ client, age: now - connectedAt, buffered, received, sent, connection })
  }
  const first = found.sort(connectionOrder(view)).slice(0, MAX_CONNECTIONS)
  return { matching: found.length, connections: first.map(({ connection, ...row }) => ({ ...row, ...rowOf(connection) })) }
}

function rowOf (connection: Connection): Omit<ConnectionRow, keyof Sortable> {
  const { user, protocol, identified, bytesReceived, bytesSent } = connection
  const channels = Array.from(connection.channels)
  return {
    user: user.slice(0, MAX_USER),
    userCut: user.length > MAX_USER,
    protocol,
    identified,
    channels: channels.slice(0, MAX_NAMED),
    channelCount: channels.length,
    bytesReceived,
    bytesSent
  }
}

function filterOf ({ show, name, user, client, channel, protocol }: View): (connection: Connection) => boolean {
  const [ofUser, ofClient, ofChannel] = [containing(user), containing(client), containing(channel)]
  return connection => {
    if (show === 'channel' && connection.subscriptions.get(name!)?.state !== 'live') return false
    if (protocol !== undefined && connection.protocol !== protocol) return false
    if (!ofUser(connection.user) || !ofClient(connection.id)) return false
    return channel === undefined || Array.from(connection.subscriptions.keys()).some(ofChannel)
  }
}

function containing (text: string | undefined): (value: string) => boolean {
  if (text === undefined) return () => true
  const wanted = text.toLowerCase()
  return value => value.toLowerCase().includes(wanted)
}

/** Others can write to Redis, too: what is no report must not reach the page. */
function isReport (value: unknown): boolean {
  const { info, matching, connections, channels } = (value ?? {}) as Partial<Report>
  return hasNumbers(info, ['connections', 'channels', 'uptime', 'memory']) && hasStrings(info, ['instance', 'revision']) &&
    Number.isFinite(matching) && Array.isArray(connections) && connections.every(isRow) &&
    Array.isArray(channels) && channels.every(one => Array.isArray(one) && typeof one[0] === 'string' && Number.isFinite(one[1]))
}

function isRow (row: Partial<ConnectionRow> | undefined): boolean {
  return hasStrings(row, ['client', 'user', 'protocol']) &&
    hasNumbers(row, ['age', 'channelCount', 'buffered', 'received', 'sent', 'bytesReceived', 'bytesSent']) &&
    Array.isArray(row?.channels) && row.channels.every(channel => typeof channel === 'string')
}

function hasStrings (value: object | undefined, names: readonly string[]): boolean {
  return names.every(name => typeof (value as Record<string, unknown> | undefined)?.[name] === 'string')
}

function hasNumbers (value: object | undefined, names: readonly string[]): boolean {
  return names.every(name => Number.isFinite((value as Record<string, unknown> | undefined)?.[name]))
}
