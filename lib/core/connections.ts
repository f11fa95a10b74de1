import type { FastifyRequest } from 'fastify'
import type { End } from '../model/close-codes.ts'
import type { Observer } from '../observability/observer.ts'
import type { Identity } from '../options/identity.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { TokenBucket } from '../util/token-bucket.ts'
import type { ClientSocket } from './client-socket.ts'
import { Connection } from './connection.ts'
import type { ConnectionOwner } from './connection-owner.ts'
import { guarded } from './guard.ts'
import type { Occupants } from './occupancy.ts'
import type { Protocol } from './protocol.ts'
import { requestClient } from './request-client.ts'
import type { Subscriptions } from './subscriptions.ts'

/** Share of the maximum age by which connections that came together are closed apart. */
const AGE_JITTER = 0.1

/** The connections of this instance, from the upgrade to the end. */
export class Connections implements ConnectionOwner<Connection> {
  readonly options: ResolvedOptions
  readonly observer: Observer
  readonly subscribe: ConnectionOwner<Connection>['subscribe']
  readonly unsubscribe: ConnectionOwner<Connection>['unsubscribe']
  readonly request: ConnectionOwner<Connection>['request']
  readonly #subscriptions: Subscriptions
  readonly #occupants: Occupants | undefined
  readonly #byId = new Map<string, Connection>()
  readonly #byUser = new Map<string, Set<Connection>>()
  /** Connections whose end the app is still handling. */
  readonly #ending = new Set<Promise<void>>()

  /** `occupants`: undefined unless the app wants to hear of users who come and go. */
  constructor (options: ResolvedOptions, subscriptions: Subscriptions, observer: Observer, occupants: Occupants | undefined) {
    this.options = options
    this.#subscriptions = subscriptions
    this.#occupants = occupants
    this.subscribe = guarded(observer, 'subscribe', (connection, channel, options, given) => {
      return subscriptions.subscribe(connection, channel, options, given)
    })
    this.unsubscribe = guarded(observer, 'unsubscribe', (connection, channel) => subscriptions.unsubscribe(connection, channel))
    this.request = guarded(observer, 'request', requestClient)
    this.observer = observer
  }

  get size (): number { return this.#byId.size }

  [Symbol.iterator] (): Iterator<Connection> { return this.#byId.values() }

  get (id: string): Connection | undefined { return this.#byId.get(id) }

  /** True if the user has a connection here. */
  has (user: string): boolean { return this.#byUser.has(user) }

  /** The users who are here, each with the number of connections. */
  * users (): IterableIterator<[user: string, connections: number]> {
    for (const [user, { size }] of this.#byUser) yield [user, size]
  }

  of (user: string): Connection[] { return Array.from(this.#byUser.get(user) ?? []) }

  /** Takes a socket right after its upgrade. Synchronous up to the listeners, so that no message is missed. */
  accept (socket: ClientSocket, protocol: Protocol<Connection>, identity: Identity | undefined, request: FastifyRequest): Connection {
    const { maxConnectionAge, heartbeat: { interval }, rateLimit: { messages } } = this.options
    const now = Date.now()
    const upgrade = {
      deadline: maxConnectionAge === false ? Infinity : now + maxConnectionAge * (1 - Math.random() * AGE_JITTER),
      // Spread over half an interval, so that connections that came together are not pinged together.
      pingAt: now + interval * (1 + Math.random()) / 2,
      trace: this.observer.traceOf(request),
      rate: messages === false ? undefined : new TokenBucket(messages, now)
    }
    const connection = new Connection(socket, protocol, this, upgrade)
    this.#byId.set(connection.id, connection)
    connection.session.start(identity, request)
    return connection
  }

  /** The user of a connection is known. */
  identified (connection: Connection, identity: Identity, request: FastifyRequest): void {
    connection.identify(identity)
    if (connection.user !== '') {
      this.#ofUser(connection.user).add(connection)
      this.#occupants?.enter(connection.user, connection)
    }
    this.observer.opened(connection, request)
  }

  ended (connection: Connection, end: End): void {
    const { id, user } = connection
    this.#byId.delete(id)
    const ofUser = this.#byUser.get(user)
    ofUser?.delete(connection)
    if (ofUser?.size === 0) this.#byUser.delete(user)
    this.#occupants?.leave(user, connection)
    for (const subscription of Array.from(connection.subscriptions.values())) this.#subscriptions.end(connection, subscription)
    this.observer.ended(connection, end)
    const { onDisconnect } = this.options
    if (onDisconnect === undefined || !connection.session.connected) return
    connection.inbox.run('onDisconnect', () => connection.inbox.allAcknowledged())
    connection.inbox.run('onDisconnect', () => onDisconnect(connection, end))
    const handled = new Promise<void>(resolve => { connection.inbox.run('onDisconnect', resolve) }).then(() => { this.#ending.delete(handled) })
    this.#ending.add(handled)
  }

  /** Resolves when the app has handled the end of every connection that has ended. */
  async settled (): Promise<void> {
    while (this.#ending.size > 0) await Promise.all(this.#ending)
  }

  #ofUser (user: string): Set<Connection> {
    let connections = this.#byUser.get(user)
    if (connections === undefined) this.#byUser.set(user, connections = new Set())
    return connections
  }
}
