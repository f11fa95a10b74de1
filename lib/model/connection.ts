import type { Position } from './publication.ts'
import type { Info, Meta } from './realtime-types.ts'

/** Result of `connection.subscribe`. Its fields are set only when `since` was given. */
export interface SubscribeResult {
  /** Offset of the position from which publications arrive live. */
  offset?: number | undefined
  /** Epoch of that position. */
  epoch?: string | undefined
  /** True if no publication is missing between `since` and what arrives live. */
  recovered?: boolean | undefined
}

/** Options of `connection.subscribe`. */
export interface SubscribeOptions {
  /** Publications after this position are sent first. @default undefined (none) */
  since?: Position | undefined
}

/** Options of `connection.request`. */
export interface RequestOptions {
  /** How long the client has to answer: milliseconds, or a duration such as '30s'. @default '10s' */
  timeout?: number | string | undefined
}

/** The error with which `connection.request` rejects when the client has answered with an error. */
export interface RequestRefusedError extends Error {
  /** FST_CRWS_REQUEST_REFUSED. */
  readonly code: string
  /** Code and message from the client; code 107 if its answer cannot be used. */
  readonly reply: { readonly code: number, readonly message: string }
}

/** What a connection speaks: 'plain' on the plain route, else the encoding of the SDK. */
export type ProtocolName = 'plain' | 'json' | 'protobuf'

/** What carries a connection: a WebSocket, or where those are blocked a response over HTTP that stays open. */
export type TransportName = 'websocket' | 'http_stream' | 'sse' | 'uni_sse'

/** One client at one socket. It lives on the instance that accepted it. */
export interface Connection {
  /** Random UUID. Presence lists and `realtime.disconnect({ client })` name the connection by it. */
  readonly id: string
  /** The user's id; '' for a client that did not authenticate. With an SDK it is known when `onConnect` is called. */
  readonly user: string
  /**
   * JSON that other clients may see of this user, from `authenticate` or the connection's token. `RealtimeTypes` gives
   * it its type; what a token carries is not checked.
   */
  readonly info: Info
  /**
   * Belongs to your app: set by `authenticate` or by a handler. It is never sent anywhere. `RealtimeTypes` gives it its
   * type.
   */
  meta: Meta
  /** Which protocol it speaks. */
  readonly protocol: ProtocolName
  /** What carries it: 'websocket', or a transport of the option `fallback`. */
  readonly transport: TransportName
  /** Unix time in milliseconds at which the upgrade was accepted. */
  readonly connectedAt: number
  /** Names of the channels that the connection is subscribed to now. A copy: it does not change later. */
  readonly channels: ReadonlySet<string>
  /** False as soon as the connection is closing or closed. */
  readonly open: boolean
  /**
   * Sends one message to this client only, after everything that was published to it before. On the plain route a
   * string is sent as it is, a Buffer as a binary message, anything else as JSON. An SDK receives it as a `message`
   * event.
   * @returns false if the connection has ended.
   * @throws FST_CRWS_INVALID_DATA if JSON cannot carry `data`.
   */
  send (data: unknown): boolean
  /**
   * Subscribes the connection to a channel. Resolves once every later publication will arrive. With `since` the
   * publications after that position are sent first. It needs a namespace with history. Subscribing again changes
   * nothing.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT (`since` without history),
   * FST_CRWS_CONNECTION_CLOSED, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  subscribe (channel: string, options?: SubscribeOptions): Promise<SubscribeResult>
  /**
   * Ends the subscription to a channel. Resolves when it has ended; nothing happens if there is none. An SDK client is
   * told, and may subscribe again if the rules allow it; a plain client is told only with `plain.envelope`.
   * @throws FST_CRWS_INVALID_CHANNEL
   */
  unsubscribe (channel: string): Promise<void>
  /**
   * Asks the client, and resolves to its answer. Plain route only: the client gets `{ id, method, data }` and answers
   * `{ id, result }` or `{ id, error: { code, message } }`. Its answer overtakes messages that wait, so a handler may
   * await it. Check the result: a client may answer anything. A client can cause the first two errors: if a handler
   * does not catch them, nothing is logged, and the connection stays open.
   * @throws FST_CRWS_REQUEST_TIMEOUT, FST_CRWS_REQUEST_REFUSED (`error.reply` is what the client sent),
   * FST_CRWS_CONNECTION_CLOSED, FST_CRWS_REQUEST_LIMIT (64 are pending), FST_CRWS_REQUEST_UNSUPPORTED (an SDK),
   * FST_CRWS_INVALID_DATA, FST_CRWS_INVALID_ARGUMENT
   */
  request (method: string, data?: unknown, options?: RequestOptions): Promise<unknown>
  /**
   * Closes the connection.
   * @param code 1000, or 3000 to 4999. SDKs connect again after 3000 to 3499 and 4000 to 4499. They stay away after
   * 1000, 3500 to 3999 and 4500 to 4999.
   * @param reason At most 123 bytes; not JSON. `@default` 'closed by the server'
   * @throws FST_CRWS_INVALID_ARGUMENT
   */
  close (code?: number, reason?: string): void
}
