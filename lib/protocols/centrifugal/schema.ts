import type { Payload } from '../../model/publication.ts'
import { MAX_FILTER_DEPTH } from '../../model/tags-filter.ts'

/**
 * The messages of the Centrifugal client protocol, version 2: names as in JSON, numbers as in Protobuf
 * (github.com/centrifugal/protocol, definitions/client.proto). The types are derived from them.
 *
 * Replies list only the fields that this server sends. Requests also list four that it ignores: `headers`,
 * `join_leave`, `positioned` and `recoverable`. A value of the wrong type in them is refused, in both encodings.
 * Decoders skip every field that is not listed.
 */
export type FieldType = 'uint32' | 'int32' | 'int64' | 'uint64' | 'bool' | 'string' | 'data' | Schema

export interface Field {
  readonly number: number
  readonly type: FieldType
  /** A list of values, or a map from strings to values. */
  readonly many: 'list' | 'map' | undefined
  /** Set in every reply that has the message, even if it is empty. */
  readonly always: boolean
}

export type Schema = { readonly [name: string]: Field }

interface FieldOf<Type, Many = undefined, Always = false> {
  readonly number: number
  readonly type: Type
  readonly many: Many
  readonly always: Always
}

// All fields have the same keys in the same order, so that reading them is fast.
export const one = <Type extends FieldType>(number: number, type: Type): FieldOf<Type> => ({ number, type, many: undefined, always: false })
const list = <Type extends FieldType>(number: number, type: Type): FieldOf<Type, 'list'> => ({ number, type, many: 'list', always: false })
const map = <Type extends FieldType>(number: number, type: Type): FieldOf<Type, 'map'> => ({ number, type, many: 'map', always: false })
/** A field that SDKs read without looking whether it is there. */
const always = <Type extends FieldType, Many>(field: FieldOf<Type, Many>): FieldOf<Type, Many, true> => ({ ...field, always: true })

const position = { offset: one(1, 'uint64'), epoch: one(2, 'string') } as const satisfies Schema

const filterLeaf = {
  op: one(1, 'string'),
  key: one(2, 'string'),
  cmp: one(3, 'string'),
  val: one(4, 'string'),
  vals: list(5, 'string'),
  nodes: list(6, {} as Schema)
} as const satisfies Schema

/** Nodes below the deepest level are counted, and not decoded: they are refused. */
function filterOf (levels: number): typeof filterLeaf {
  return levels === 1 ? filterLeaf : { ...filterLeaf, nodes: list(6, filterOf(levels - 1) as Schema) }
}

const subscribeRequest = {
  channel: one(1, 'string'),
  token: one(2, 'string'),
  recover: one(3, 'bool'),
  epoch: one(6, 'string'),
  offset: one(7, 'uint64'),
  data: one(8, 'data'),
  positioned: one(9, 'bool'),
  recoverable: one(10, 'bool'),
  join_leave: one(11, 'bool'),
  delta: one(12, 'string'),
  tf: one(13, filterOf(MAX_FILTER_DEPTH)),
  flag: one(14, 'int64'),
  type: one(15, 'int32')
} as const satisfies Schema

const connectRequest = {
  token: one(1, 'string'),
  data: one(2, 'data'),
  subs: map(3, subscribeRequest),
  name: one(4, 'string'),
  version: one(5, 'string'),
  headers: map(6, 'string')
} as const satisfies Schema

/** One request beside the id [Command-Reply]. Without an id it is a `send`, or the answer to a ping [Ping Pong]. */
export const commandSchema = {
  id: one(1, 'uint32'),
  connect: one(4, connectRequest),
  subscribe: one(5, subscribeRequest),
  unsubscribe: one(6, { channel: one(1, 'string') }),
  publish: one(7, { channel: one(1, 'string'), data: one(2, 'data'), type: one(3, 'int32') }),
  presence: one(8, { channel: one(1, 'string') }),
  presence_stats: one(9, { channel: one(1, 'string') }),
  history: one(10, { channel: one(1, 'string'), limit: one(7, 'int32'), since: one(8, position), reverse: one(9, 'bool') }),
  ping: one(11, {}),
  send: one(12, { data: one(1, 'data') }),
  rpc: one(13, { data: one(1, 'data'), method: one(2, 'string') }),
  refresh: one(14, { token: one(1, 'string') }),
  sub_refresh: one(15, { channel: one(1, 'string'), token: one(2, 'string'), type: one(3, 'int32') })
} as const satisfies Schema

const clientInfo = {
  user: always(one(1, 'string')),
  client: always(one(2, 'string')),
  conn_info: one(3, 'data'),
  chan_info: one(4, 'data')
} as const satisfies Schema

const publication = {
  data: always(one(4, 'data')),
  info: one(5, clientInfo),
  offset: one(6, 'uint64'),
  tags: map(7, 'string'),
  delta: one(8, 'bool'),
  epoch: one(14, 'string')
} as const satisfies Schema

const subscribeResult = {
  expires: one(1, 'bool'),
  ttl: one(2, 'uint32'),
  recoverable: one(3, 'bool'),
  epoch: one(6, 'string'),
  publications: list(7, publication),
  recovered: one(8, 'bool'),
  offset: one(9, 'uint64'),
  positioned: one(10, 'bool'),
  data: one(11, 'data'),
  was_recovering: one(12, 'bool'),
  delta: one(13, 'bool'),
  id: one(14, 'int64')
} as const satisfies Schema

const connectResult = {
  client: always(one(1, 'string')),
  version: always(one(2, 'string')),
  expires: one(3, 'bool'),
  ttl: one(4, 'uint32'),
  data: one(5, 'data'),
  subs: map(6, subscribeResult),
  ping: one(7, 'uint32'),
  pong: one(8, 'bool'),
  session: one(9, 'string'),
  node: one(10, 'string')
} as const satisfies Schema

const push = {
  id: one(1, 'int64'),
  channel: one(2, 'string'),
  pub: one(4, publication),
  join: one(5, { info: always(one(1, clientInfo)) }),
  leave: one(6, { info: always(one(1, clientInfo)) }),
  unsubscribe: one(7, { code: always(one(2, 'uint32')), reason: always(one(3, 'string')) }),
  message: one(8, { data: always(one(1, 'data')) }),
  subscribe: one(9, { recoverable: one(1, 'bool'), epoch: one(4, 'string'), offset: one(5, 'uint64'), positioned: one(6, 'bool') }),
  disconnect: one(11, { code: always(one(1, 'uint32')), reason: always(one(2, 'string')), reconnect: one(3, 'bool') })
} as const satisfies Schema

/** What a client sends in a post, where WebSockets are blocked. `data`: a frame, as it would go through a WebSocket. */
export const emulationRequest = {
  node: one(1, 'string'),
  session: one(2, 'string'),
  data: one(3, 'data')
} as const satisfies Schema

/** Without an id it is a push [Asynchronous pushes], empty a ping. SDKs look for a result even if it is empty. */
export const replySchema = {
  id: one(1, 'uint32'),
  error: one(2, { code: always(one(1, 'uint32')), message: always(one(2, 'string')), temporary: one(3, 'bool') }),
  push: one(4, push),
  connect: one(5, connectResult),
  subscribe: one(6, subscribeResult),
  unsubscribe: one(7, {}),
  publish: one(8, {}),
  presence: one(9, { presence: always(map(1, clientInfo)) }),
  presence_stats: one(10, { num_clients: always(one(1, 'uint32')), num_users: always(one(2, 'uint32')) }),
  history: one(11, { publications: always(list(1, publication)), epoch: always(one(2, 'string')), offset: always(one(3, 'uint64')) }),
  rpc: one(13, { data: one(1, 'data') }),
  refresh: one(14, { expires: one(3, 'bool'), ttl: one(4, 'uint32') }),
  sub_refresh: one(15, { expires: one(1, 'bool'), ttl: one(2, 'uint32') })
} as const satisfies Schema

/** Payload of a command: the parsed value from a JSON client, bytes from a Protobuf client. */
export type CommandData = { readonly value: unknown } | { readonly bytes: Buffer }

type ValueOf<Type extends FieldType, Data> =
  Type extends Schema ? MessageOf<Type, Data>
    : Type extends 'data' ? Data
      : Type extends 'bool' ? boolean
        : Type extends 'string' ? string : number

type ContentOf<One extends Field, Data> =
  One['many'] extends 'list' ? ValueOf<One['type'], Data>[]
    : One['many'] extends 'map' ? Record<string, ValueOf<One['type'], Data>> : ValueOf<One['type'], Data>

type Always<Type extends Schema> = { [Name in keyof Type]: Type[Name]['always'] extends true ? Name : never }[keyof Type]

/** A message as an object. `Data`: what a payload is in it. */
export type MessageOf<Type extends Schema, Data = CommandData> =
  { -readonly [Name in Exclude<keyof Type, Always<Type>>]?: ContentOf<Type[Name], Data> }
  & { -readonly [Name in Always<Type>]: ContentOf<Type[Name], Data> }

export type Command = MessageOf<typeof commandSchema>
export type CommandName = Exclude<keyof Command, 'id'>
export type RequestOf<Name extends CommandName> = NonNullable<Command[Name]>

export type Reply = MessageOf<typeof replySchema, Payload>
export type Push = MessageOf<typeof push, Payload>
export type ClientInfo = MessageOf<typeof clientInfo, Payload>
export type ReplyPublication = MessageOf<typeof publication, Payload>
export type SubscribeReply = MessageOf<typeof subscribeResult, Payload>
export type Expiry = Pick<SubscribeReply, 'expires' | 'ttl'>
