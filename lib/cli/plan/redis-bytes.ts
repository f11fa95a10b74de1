// How many bytes a command, its answer or a message takes on the way to and from Redis (RESP3), from its parts.

/** What of an app decides how long commands are. */
export interface Sizes {
  payload: number
  channelBytes: number
  /** Of a user's id. */
  userBytes?: number
  /** The number of a publication of its publisher in its channel, or in its history. */
  sequence?: number
  history: boolean
  sdk?: boolean
  byClients?: boolean
}

/** `in` and `out`: bytes of a command and of its answer. */
export interface CommandBytes { in: number, out: number, perMember?: number }

export const commandKinds = [
  'publish', 'publishWithHistory', 'beginEpoch', 'readPosition', 'addMembers', 'removeMember', 'record', 'countUpgrade', 'subscribe', 'unsubscribe',
  'ping', 'clientInfo'
] as const
export type CommandKind = typeof commandKinds[number]

/** A text of so many bytes: only lengths count here. */
const text = (length: number) => 'x'.repeat(length)

const digits = (number: number) => String(Math.max(1, Math.round(number))).length
const bulk = (part: string | number) => digits(String(part).length) + 5 + String(part).length // $7\r\nmessage\r\n
type Texts = readonly (string | number)[]
const array = (parts: Texts) => digits(parts.length) + 3 + parts.reduce<number>((total, part) => total + bulk(part), 0)

const SHA = text(40)
const INSTANCE = text(8)
const EPOCH = text(8)
const TIME = text(13)
const CLIENT = text(36)
const OK = 4 // :0\r\n

/** As in lib/backends/redis/keys.ts, with the prefix that is the default. */
const key = (kind: string, name: string) => `ws:${kind}:{${name}}`

/** As in lib/backends/redis/wire-format.ts: a string that the app publishes, or one of an SDK client that is named. */
function envelope (payload: number, sequence: number, publisher: string | undefined): string {
  const named = publisher === undefined ? '' : ` ${JSON.stringify({ publisher: { client: CLIENT, user: publisher } })}`
  return `t ${TIME} ${INSTANCE} ${sequence}${named}\n${text(payload)}`
}

const evalsha = (keys: readonly string[], args: Texts) => array(['EVALSHA', SHA, keys.length, ...keys, ...args])

/** What a member is in a presence list: JSON. */
const member = (user = '') => JSON.stringify({ client: CLIENT, user })

const ABOUT_INSTANCE = { instance: INSTANCE, connections: 250, channels: 250, uptime: 1_000, revision: '' }

/** Bytes of each kind of command, and of a publication to each subscriber (`message`). */
export function redisBytes (
  { payload, channelBytes, sequence = 1_000, history, userBytes = 0, byClients = false }: Sizes
): Record<CommandKind, CommandBytes> & { message: number } {
  const name = text(channelBytes)
  const pubsub = key('pub', name)
  const positioned = [key('stream', name), key('position', name)]
  const listed = [key('members', name), key('members-until', name), key('members-users', name)]
  const user = text(userBytes)
  const own = JSON.stringify({ client: INSTANCE, user: '', info: ABOUT_INSTANCE })
  const known = [EPOCH, EPOCH, Math.round(sequence), '', '']
  const position = 4 + 3 + digits(sequence) + bulk(EPOCH)
  const publisher = byClients ? user : undefined
  const stored = envelope(payload, 0, publisher)
  const sent = history ? `${Math.round(sequence)} ${EPOCH} ${stored}` : `0  ${envelope(payload, Math.round(sequence), publisher)}`
  const instances = ['members', 'members-until', 'members-users'].map(kind => key(kind, '\0instances'))
  return {
    message: 4 + bulk('message') + bulk(pubsub) + bulk(sent),
    publish: { in: array(['PUBLISH', pubsub, sent]), out: OK },
    publishWithHistory: {
      in: evalsha(positioned, [stored, 1_000, 60_000, 604_800_000, 'PUBLISH', pubsub, 300_000, ...known]),
      out: position + 4
    },
    beginEpoch: { in: evalsha(positioned.slice(1), [EPOCH]), out: 4 },
    readPosition: {
      in: evalsha(positioned, [604_800_000, 120_000, 'XRANGE', '-', '+', 0, 0, ...known]),
      out: position + 4 + 4 + bulk('') + 4
    },
    addMembers: { in: evalsha(listed, [60_000]), out: OK, perMember: bulk(CLIENT) + bulk(member(user)) },
    removeMember: { in: evalsha(listed, [CLIENT]), out: OK },
    record: { in: evalsha(instances, [60_000, INSTANCE, own]), out: OK },
    countUpgrade: { in: evalsha([key('rate-limit', text(13))], [60_000]), out: 4 + 4 + 8 },
    subscribe: { in: array(['SUBSCRIBE', pubsub]), out: 4 + bulk('subscribe') + bulk(pubsub) + OK },
    unsubscribe: { in: array(['UNSUBSCRIBE', pubsub]), out: 4 + bulk('unsubscribe') + bulk(pubsub) + OK },
    ping: { in: array(['PING']), out: 7 },
    clientInfo: { in: array(['CLIENT', 'INFO']), out: 330 }
  }
}

/** Bytes of a publication to a client, in a WebSocket frame of its own. An SDK client gets a JSON reply around it. */
export function clientBytes (sizes: Sizes): number {
  const { payload, channelBytes, userBytes = 0, history, sdk = false, byClients = false, sequence = 1_000 } = sizes
  const pub = { data: 0, ...history && { offset: sequence }, ...byClients && { info: { user: text(userBytes), client: CLIENT } } }
  const size = payload + (sdk ? JSON.stringify({ push: { channel: text(channelBytes), pub } }).length - 1 : 0)
  if (size < 126) return size + 2
  return size + (size < 65_536 ? 4 : 10)
}
