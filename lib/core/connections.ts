import type { FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import { checkChannel } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { End } from '../model/close-codes.ts'
import { Connection } from './connection.ts'
import type { SubscribeResult } from './connection.ts'
import { ConnectionClosedError, InvalidArgumentError } from '../model/errors.ts'
import type { Hub } from '../hub/hub.ts'
import type { Joining } from '../hub/joining.ts'
import type { Observer } from '../observability/observer.ts'
import type { Identity, ResolvedOptions } from '../options/options.ts'
import type { Member, Presence } from '../model/presence.ts'
import type { Protocol } from './protocol.ts'
import type { Position } from '../model/publication.ts'
import type { Publisher } from './publisher.ts'
import { TokenBucket } from '../util/token-bucket.ts'

/** Share of the maximum age by which connections that came together are closed apart. */
const AGE_JITTER = 0.1

/** The connections of this process, and what happens to each of them between its upgrade and its end. */
export class Instance {
  readonly id: string
  readonly startedAt: number = Date.now()
  readonly options: ResolvedOptions
  readonly observer: Observer
  readonly connections = new Map<string, Connection>()
  readonly #users = new Map<string, Set<Connection>>()
  readonly #hub: Hub
  readonly #presence: Presence
  readonly #namespaces: ChannelNamespaces
  readonly #publisher: Publisher
  /** Connections whose end the host is still handling. */
  readonly #ending = new Set<Promise<void>>()

  constructor (options: ResolvedOptions, hub: Hub, presence: Presence, publisher: Publisher, namespaces: ChannelNamespaces, observer: Observer) {
    this.id = publisher.instance
    this.#publisher = publisher
    this.options = options
    this.#hub = hub
    this.#presence = presence
    this.#namespaces = namespaces
    this.observer = observer
  }

  get full (): boolean { return this.connections.size >= this.options.maxConnections }

  /** Takes a socket right after its upgrade. Synchronous up to the listeners, so that no message is missed. */
  accept (socket: WebSocket, wire: Protocol, identity: Identity | undefined, request: FastifyRequest): void {
    const { maxConnectionAge, heartbeat: { interval }, rateLimit: { messages } } = this.options
    const now = Date.now()
    const deadline = maxConnectionAge === false ? Infinity : now + maxConnectionAge * (1 - Math.random() * AGE_JITTER)
    const bucket = messages === false ? undefined : new TokenBucket(messages, now)
    const connection = new Connection(socket, wire, this, deadline, bucket)
    connection.trace = this.observer.traceOf(request)
    // Spread over half an interval, so that connections that came together are not pinged together.
    connection.pingAt = now + interval * (1 + Math.random()) / 2
    this.connections.set(connection.id, connection)
    wire.opened(connection, identity, request)
  }

  /** Who it is is known. */
  identified (connection: Connection, identity: Identity, request: FastifyRequest): void {
    connection.identify(identity)
    if (connection.user !== '') this.#ofUser(connection.user).add(connection)
    this.observer.opened(connection, request)
  }

  /** Called by the connection, once, however it ended. */
  ended (connection: Connection, end: End): void {
    const { id, user } = connection
    this.connections.delete(id)
    const ofUser = this.#users.get(user)
    ofUser?.delete(connection)
    if (ofUser?.size === 0) this.#users.delete(user)
    for (const [channel, joining] of connection.session?.deferred ?? []) this.turnAway(connection, channel, joining)
    for (const channel of connection.channels) this.#left(connection, channel)
    this.observer.ended(connection, end)
    const { onDisconnect } = this.options
    if (onDisconnect === undefined || connection.session?.welcomed === false) return
    connection.run(() => onDisconnect(connection, end))
    const handled = new Promise<void>(resolve => { connection.run(resolve) }).then(() => { this.#ending.delete(handled) })
    this.#ending.add(handled)
  }

  /** Resolves when the host has handled the end of every connection that has ended. */
  async settled (): Promise<void> {
    while (this.#ending.size > 0) await Promise.all(this.#ending)
  }

  /** Sends it what is pending in its channels. */
  flushTo (connection: Connection): void {
    this.#hub.flushTo(connection)
  }

  /** It has taken what it owed. */
  drained (connection: Connection): void {
    this.#hub.drained(connection)
  }

  connectionsOf (user: string): Connection[] {
    return Array.from(this.#users.get(user) ?? [])
  }

  /** The host subscribes a connection. */
  async subscribe (connection: Connection, channel: string, since: Position | undefined): Promise<SubscribeResult> {
    const { history } = this.#namespaces.rules(checkChannel(channel))
    if (since !== undefined && history === undefined) throw new InvalidArgumentError('since', JSON.stringify(since), `nothing in channel ${channel}, whose namespace keeps no history`)
    return connection.inTurn(channel, async () => {
      const { channels, session } = connection
      if (channels.has(channel) || session?.subscriptions.has(channel)) return {}
      const joining = await this.join(connection, channel, since ?? session?.positionOf(channel))
      return connection.wire.subscribed(connection, channel, joining)
    })
  }

  /** The host unsubscribes a connection. */
  async unsubscribe (connection: Connection, channel: string): Promise<void> {
    checkChannel(channel)
    await connection.inTurn(channel, async () => {
      const joining = connection.session?.takeDeferred(channel)
      if (joining !== undefined) await this.turnAway(connection, channel, joining)
      else if (await this.leave(connection, channel)) connection.wire.unsubscribed(connection, channel)
    })
  }

  /** Resolves when the connection may be admitted. */
  async join (connection: Connection, channel: string, since: Position | undefined, channelInfo?: unknown): Promise<Joining> {
    if (!connection.open) throw new ConnectionClosedError(connection.id)
    const { history, presence } = this.#namespaces.rules(channel)
    const positioned = history !== undefined && (since !== undefined || connection.wire.name !== 'plain')
    const joining = await this.#hub.join(connection, channel, positioned, since)
    try {
      if (presence) await this.#presence.add(channel, [memberOf(connection, channelInfo)])
      if (!connection.open) throw new ConnectionClosedError(connection.id)
      return joining
    } catch (error) {
      this.turnAway(connection, channel, joining)
      throw error
    }
  }

  /** It is not admitted after all. */
  turnAway (connection: Connection, channel: string, joining: Joining): Promise<void> {
    joining.abort()
    return this.#removePresence(connection, channel)
  }

  /** False if it was not there. */
  async leave (connection: Connection, channel: string): Promise<boolean> {
    if (connection.gone || !connection.left(channel)) return false
    await this.#left(connection, channel)
    return true
  }

  /** Whether a subscriber that named its position got all that it missed. */
  recovery (recovered: boolean): void {
    this.observer.recovered(recovered)
  }

  /** Called by the protocol when it has admitted the connection. */
  joined (connection: Connection, channel: string): void {
    this.#announce('join', connection, channel)
  }

  /** Adds everybody here to the presence lists again, before their entries expire. */
  async refreshPresence (): Promise<void> {
    const refreshed: Promise<void>[] = []
    for (const [channel, connections] of this.#hub.occupied()) {
      if (this.#namespaces.rules(channel).presence) refreshed.push(this.#presence.add(channel, Array.from(connections, connection => memberOf(connection, connection.session?.subscriptions.get(channel)?.info))))
    }
    await Promise.all(refreshed)
  }

  /** At most once, like all events; the presence list is what counts. */
  #announce (what: 'join' | 'leave', connection: Connection, channel: string): void {
    if (!this.#namespaces.rules(channel).joinLeave) return
    const channelInfo = connection.session?.subscriptions.get(channel)?.info
    this.#publisher.announce(what, channel, memberOf(connection, channelInfo)).catch(() => {})
  }

  async #left (connection: Connection, channel: string): Promise<void> {
    this.#hub.leave(connection, channel)
    this.#announce('leave', connection, channel)
    await this.#removePresence(connection, channel)
  }

  /** While Redis is away the entry can not be removed; it expires by itself. */
  async #removePresence (connection: Connection, channel: string): Promise<void> {
    if (this.#namespaces.rules(channel).presence) await this.#presence.remove(channel, connection.id).catch(() => {})
  }

  #ofUser (user: string): Set<Connection> {
    let connections = this.#users.get(user)
    if (connections === undefined) this.#users.set(user, connections = new Set())
    return connections
  }
}

/** As others see a connection. */
export function memberOf ({ id, user, info }: Connection, channelInfo?: unknown): Member {
  return { client: id, user, ...(info !== undefined && { info }), ...(channelInfo !== undefined && { channelInfo }) }
}
