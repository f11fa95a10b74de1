import type { FastifyRequest } from 'fastify'
import type { End } from '../model/close-codes.ts'
import type { Connection } from '../model/connection.ts'
import type { AnyChannelData } from '../model/realtime-types.ts'
import type { ConnectDetails } from './connect-details.ts'
import type { PublishChange } from './publish-change.ts'
import type { SubscribeGrant } from './subscribe-grant.ts'

type MaybePromise<T> = T | Promise<T>

/**
 * The handlers of your app, which are options, too. Handlers may be async. One that throws never ends the process: the
 * error is logged, and the connection is closed with 1011. An SDK client gets error 100 in reply instead, or the code
 * and message of a `ClientError`. It is closed, with 3004, only if `onMessage` throws.
 */
export interface Handlers {
  /**
   * A client has connected. Its messages wait until this handler has ended. If the result has `data`, an SDK client
   * gets that with the reply to its connect command.
   */
  onConnect?: ((connection: Connection, request: FastifyRequest, details: ConnectDetails) => unknown) | undefined
  /**
   * A message from a plain client: a string, or a Buffer if it was binary. From an SDK's `send`: JSON, or a Buffer if
   * it is not JSON. The messages of a connection are handled one at a time, in order.
   * @default undefined (a plain client that sends a message is closed with 1003, an SDK that uses `send` with 3508)
   */
  onMessage?: ((connection: Connection, data: unknown) => unknown) | undefined
  /** The connection has ended, and all its messages have been handled. */
  onDisconnect?: ((connection: Connection, end: End) => unknown) | undefined
  /**
   * A channel has its first subscriber on any instance. Called on one instance, once; not called if the channel was
   * occupied within `gracePeriod`. Errors are logged.
   */
  onOccupied?: ((channel: string) => unknown) | undefined
  /**
   * No instance has had a subscriber of the channel for `gracePeriod`, or those that had one have crashed. Called on
   * one instance, once. Errors are logged.
   */
  onVacated?: ((channel: string) => unknown) | undefined
  /**
   * A user has the first connection on any instance. Called on one instance, once; not called if the user was online
   * within `gracePeriod`. Errors are logged.
   */
  onUserOnline?: ((user: string) => unknown) | undefined
  /**
   * A user has had no connection for `gracePeriod` on any instance, or the instances with them have crashed. Called on
   * one instance, once. Errors are logged.
   */
  onUserOffline?: ((user: string) => unknown) | undefined
  /**
   * An SDK client, or a plain one with `plain.envelope`, subscribes, and the rules of the namespace allow it. False
   * refuses it with error 103; an object grants it. A snapshot, `{ data, since }`, has no gap.
   * @default undefined (the rules decide)
   */
  onSubscribe?: (
    (connection: Connection, channel: string, details: { data?: unknown }) => MaybePromise<SubscribeGrant | boolean | void>
  ) | undefined
  /**
   * An SDK client, or a plain one with `plain.envelope`, publishes, and the rules of the namespace allow it. False
   * refuses it with error 103; an object changes what is published. `data` is the output of the namespace's `schema`,
   * if it has one.
   * @default undefined (the rules decide)
   */
  onPublish?: ((connection: Connection, channel: string, data: AnyChannelData) => MaybePromise<PublishChange | boolean | void>) | undefined
  /**
   * An SDK client calls a method that is not in `methods`. It gets the result: JSON, or a Buffer.
   * @default undefined (the client gets error 104, or 108 without `methods`)
   */
  onRpc?: ((connection: Connection, method: string, data: unknown) => unknown) | undefined
}
