import type { GivenByToken } from '../hub/subscription.ts'
import type { End } from '../model/close-codes.ts'
import type { RequestOptions, SubscribeOptions, SubscribeResult } from '../model/connection.ts'
import type { Observer } from '../observability/observer.ts'
import type { ResolvedOptions } from '../options/resolve.ts'

/** What a connection needs of the instance. */
export interface ConnectionOwner<Connection> {
  readonly options: ResolvedOptions
  readonly observer: Observer
  /** Subscribes the connection on behalf of the app, or of its token. */
  subscribe (connection: Connection, channel: string, options?: SubscribeOptions, given?: GivenByToken): Promise<SubscribeResult>
  /** Unsubscribes the connection on behalf of the app. */
  unsubscribe (connection: Connection, channel: string): Promise<void>
  /** Asks the client on behalf of the app. */
  request (connection: Connection, method: string, data?: unknown, options?: RequestOptions): Promise<unknown>
  /** Called once, however the connection ended. */
  ended (connection: Connection, end: End): void
}
