import type { Payload } from '../../model/publication.ts'

/**
 * The messages of the Centrifugal client protocol, version 2: names as in its JSON form, numbers as in its Protobuf form
 * (github.com/centrifugal/protocol, definitions/client.proto). Fields of features that this server does not have are left out;
 * decoders skip what they do not know.
 */
export type FieldType = 'uint32' | 'int32' | 'int64' | 'uint64' | 'bool' | 'string' | 'data' | Schema

export interface Field {
  readonly number: number
  readonly type: FieldType
  /** A list, or a map from text. */
  readonly many?: 'list' | 'map'
}

export type Schema = { readonly [name: string]: Field }

const one = (number: number, type: FieldType): Field => ({ number, type })
const list = (number: number, type: FieldType): Field => ({ number, type, many: 'list' })
const map = (number: number, type: FieldType): Field => ({ number, type, many: 'map' })

const clientInfo: Schema = { user: one(1, 'string'), client: one(2, 'string'), conn_info: one(3, 'data'), chan_info: one(4, 'data') }
const publication: Schema = { data: one(4, 'data'), info: one(5, clientInfo), offset: one(6, 'uint64'), tags: map(7, 'string'), epoch: one(14, 'string') }
const position: Schema = { offset: one(1, 'uint64'), epoch: one(2, 'string') }

const subscribeRequest: Schema = {
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
  tf: one(13, {}),
  flag: one(14, 'int64'),
  type: one(15, 'int32')
}

export const commandSchema: Schema = {
  id: one(1, 'uint32'),
  connect: one(4, {
    token: one(1, 'string'), data: one(2, 'data'), subs: map(3, subscribeRequest), name: one(4, 'string'), version: one(5, 'string'), headers: map(6, 'string')
  }),
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
}

const subscribeResult: Schema = {
  expires: one(1, 'bool'),
  ttl: one(2, 'uint32'),
  recoverable: one(3, 'bool'),
  epoch: one(6, 'string'),
  publications: list(7, publication),
  recovered: one(8, 'bool'),
  offset: one(9, 'uint64'),
  positioned: one(10, 'bool'),
  data: one(11, 'data'),
  was_recovering: one(12, 'bool')
}

const push: Schema = {
  channel: one(2, 'string'),
  pub: one(4, publication),
  join: one(5, { info: one(1, clientInfo) }),
  leave: one(6, { info: one(1, clientInfo) }),
  unsubscribe: one(7, { code: one(2, 'uint32'), reason: one(3, 'string') }),
  message: one(8, { data: one(1, 'data') }),
  subscribe: one(9, { recoverable: one(1, 'bool'), epoch: one(4, 'string'), offset: one(5, 'uint64'), positioned: one(6, 'bool'), data: one(7, 'data') }),
  disconnect: one(11, { code: one(1, 'uint32'), reason: one(2, 'string'), reconnect: one(3, 'bool') })
}

export const replySchema: Schema = {
  id: one(1, 'uint32'),
  error: one(2, { code: one(1, 'uint32'), message: one(2, 'string'), temporary: one(3, 'bool') }),
  push: one(4, push),
  connect: one(5, {
    client: one(1, 'string'),
    version: one(2, 'string'),
    expires: one(3, 'bool'),
    ttl: one(4, 'uint32'),
    data: one(5, 'data'),
    subs: map(6, subscribeResult),
    ping: one(7, 'uint32'),
    pong: one(8, 'bool'),
    session: one(9, 'string'),
    node: one(10, 'string')
  }),
  subscribe: one(6, subscribeResult),
  unsubscribe: one(7, {}),
  publish: one(8, {}),
  presence: one(9, { presence: map(1, clientInfo) }),
  presence_stats: one(10, { num_clients: one(1, 'uint32'), num_users: one(2, 'uint32') }),
  history: one(11, { publications: list(1, publication), epoch: one(2, 'string'), offset: one(3, 'uint64') }),
  ping: one(12, {}),
  rpc: one(13, { data: one(1, 'data') }),
  refresh: one(14, { client: one(1, 'string'), version: one(2, 'string'), expires: one(3, 'bool'), ttl: one(4, 'uint32') }),
  sub_refresh: one(15, { expires: one(1, 'bool'), ttl: one(2, 'uint32') })
}

/** Payload of a command: what a JSON client sent is a value already, what a Protobuf client sent are bytes. */
export type CommandData = { readonly value: unknown } | { readonly bytes: Buffer }

export interface SubscribeRequest {
  channel?: string
  token?: string
  recover?: boolean
  epoch?: string
  offset?: number
  data?: CommandData
  positioned?: boolean
  recoverable?: boolean
  join_leave?: boolean
  delta?: string
  tf?: object
  flag?: number
  type?: number
}

export interface ConnectRequest {
  token?: string
  data?: CommandData
  subs?: Record<string, SubscribeRequest>
  name?: string
  version?: string
  headers?: Record<string, string>
}

/** Exactly one request beside the id; without an id it is a `send`, or the answer to a ping. */
export interface Command {
  id?: number
  connect?: ConnectRequest
  subscribe?: SubscribeRequest
  unsubscribe?: { channel?: string }
  publish?: { channel?: string, data?: CommandData, type?: number }
  presence?: { channel?: string }
  presence_stats?: { channel?: string }
  history?: { channel?: string, limit?: number, since?: { offset?: number, epoch?: string }, reverse?: boolean }
  ping?: object
  send?: { data?: CommandData }
  rpc?: { data?: CommandData, method?: string }
  refresh?: { token?: string }
  sub_refresh?: { channel?: string, token?: string, type?: number }
}

export interface ClientInfo {
  user: string
  client: string
  conn_info?: Payload
  chan_info?: Payload
}

export interface ReplyPublication {
  data: Payload
  info?: ClientInfo
  offset?: number
  tags?: Record<string, string>
  epoch?: string
}

export interface SubscribeReply {
  expires?: boolean
  ttl?: number
  recoverable?: boolean
  epoch?: string
  publications?: ReplyPublication[]
  recovered?: boolean
  offset?: number
  positioned?: boolean
  data?: Payload
  was_recovering?: boolean
}

export interface Push {
  channel?: string
  pub?: ReplyPublication
  join?: { info: ClientInfo }
  leave?: { info: ClientInfo }
  unsubscribe?: { code: number, reason: string }
  message?: { data: Payload }
  subscribe?: { recoverable?: boolean, epoch?: string, offset?: number, positioned?: boolean, data?: Payload }
  disconnect?: { code: number, reason: string, reconnect: boolean }
}

export interface Expiry {
  expires?: boolean
  ttl?: number
}

/** An empty reply is a ping. A result is there even if it is empty: SDKs look for it. */
export interface Reply {
  id?: number
  error?: { code: number, message: string, temporary?: boolean }
  push?: Push
  connect?: Expiry & { client: string, version: string, data?: Payload, subs?: Record<string, SubscribeReply>, ping?: number, pong?: boolean }
  subscribe?: SubscribeReply
  unsubscribe?: object
  publish?: object
  presence?: { presence: Record<string, ClientInfo> }
  presence_stats?: { num_clients: number, num_users: number }
  history?: { publications: ReplyPublication[], epoch: string, offset: number }
  rpc?: { data?: Payload }
  refresh?: Expiry & { client: string, version: string }
  sub_refresh?: Expiry
}
