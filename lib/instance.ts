import type { FastifyRequest } from 'fastify'
import { randomBytes } from 'node:crypto'
import type { WebSocket } from 'ws'
import { checkChannel } from './channels.ts'
import type { ChannelNamespaces } from './channels.ts'
import type { End } from './close-codes.ts'
import { Connection } from './connection.ts'
import { ConnectionClosedError, InvalidArgumentError } from './errors.ts'
import type { Hub } from './hub.ts'
import type { Logs } from './logs.ts'
import type { Metrics } from './metrics.ts'
import type { Identity, ResolvedOptions } from './options.ts'
import type { Member, Presence } from './presence.ts'
import type { Protocol } from './protocol.ts'
import type { Position } from './publication.ts'
import { TokenBucket } from './token-bucket.ts'

/** `recovered`, `offset` and `epoch` are there when `since` was given: whether nothing is missing, and from where on publications come live. */
export interface SubscribeResult extends Partial<Position> {
  recovered?: boolean
}

/** Share of the maximum age by which connections that came together are closed apart. */
const AGE_JITTER = 0.1

/** The connections of this process, and what happens to each of them between its upgrade and its end. */
export class Instance {
  readonly id: string = randomBytes(6).toString('base64url')
  readonly startedAt: number = Date.now()
  readonly options: ResolvedOptions
  readonly logs: Logs
  readonly connections = new Map<string, Connection>()
  readonly #users = new Map<string, Set<Connection>>()
  readonly #hub: Hub
  readonly #presence: Presence
  readonly #namespaces: ChannelNamespaces
  readonly #metrics: Metrics
  /** Connections whose end the host is still handling. */
  readonly #ending = new Set<Promise<void>>()

  constructor (options: ResolvedOptions, hub: Hub, presence: Presence, namespaces: ChannelNamespaces, metrics: Metrics, logs: Logs) {
    this.options = options
    this.#hub = hub
    this.#presence = presence
    this.#namespaces = namespaces
    this.#metrics = metrics
    this.logs = logs
  }

  get full (): boolean { return this.connections.size >= this.options.maxConnections }

  /** Takes a socket right after its upgrade. Synchronous up to the listeners, so that no message is missed. */
  accept (socket: WebSocket, wire: Protocol, identity: Identity, request: FastifyRequest): void {
    const { maxConnectionAge, heartbeat: { interval }, rateLimit: { messages }, onConnect } = this.options
    const now = Date.now()
    const closeAt = maxConnectionAge === false ? Infinity : now + maxConnectionAge * (1 - Math.random() * AGE_JITTER)
    const bucket = messages === false ? undefined : new TokenBucket(messages, now)
    const connection = new Connection(socket, wire, this, identity, closeAt, bucket)
    // Spread over half an interval, so that connections that came together are not pinged together.
    connection.pingAt = now + interval * (1 + Math.random()) / 2
    this.connections.set(connection.id, connection)
    if (connection.user !== '') this.#ofUser(connection.user).add(connection)
    this.logs.opened(connection, request)
    if (onConnect !== undefined) connection.run(() => onConnect(connection, request))
  }

  /** Called by the connection, once, however it ended. */
  ended (connection: Connection, end: End): void {
    const { id, user } = connection
    this.connections.delete(id)
    const ofUser = this.#users.get(user)
    ofUser?.delete(connection)
    if (ofUser?.size === 0) this.#users.delete(user)
    for (const channel of connection.channels) this.#leave(connection, channel)
    this.#metrics.connectionEnded(connection, end)
    this.logs.closed(connection, end)
    const { onDisconnect } = this.options
    if (onDisconnect === undefined) return
    connection.run(() => onDisconnect(connection, end))
    const handled = new Promise<void>(resolve => { connection.run(resolve) }).then(() => { this.#ending.delete(handled) })
    this.#ending.add(handled)
  }

  /** Resolves when the host has handled the end of every connection that has ended. */
  async settled (): Promise<void> {
    while (this.#ending.size > 0) await Promise.all(this.#ending)
  }

  connectionsOf (user: string): Connection[] {
    return Array.from(this.#users.get(user) ?? [])
  }

  async subscribe (connection: Connection, channel: string, since: Position | undefined): Promise<SubscribeResult> {
    const { history, presence } = this.#namespaces.rules(checkChannel(channel))
    if (since !== undefined && history === undefined) throw new InvalidArgumentError('since', JSON.stringify(since), `nothing in channel ${channel}, whose namespace keeps no history`)
    return connection.inTurn(channel, async () => {
      if (!connection.open) throw new ConnectionClosedError(connection.id)
      const result = since === undefined ? await this.#hub.join(connection, channel) : await this.#recover(connection, channel, since)
      if (!connection.open) throw new ConnectionClosedError(connection.id)
      connection.joined(channel)
      if (presence) await this.#announce(connection, channel)
      return result ?? {}
    })
  }

  async unsubscribe (connection: Connection, channel: string): Promise<void> {
    checkChannel(channel)
    await connection.inTurn(channel, async () => {
      if (connection.left(channel)) await this.#leave(connection, channel)
    })
  }

  /** Adds everybody here to the presence lists again, before their entries expire. */
  async refreshPresence (): Promise<void> {
    const refreshed: Promise<void>[] = []
    for (const [channel, connections] of this.#hub.occupied()) {
      if (this.#namespaces.rules(channel).presence) refreshed.push(this.#presence.add(channel, Array.from(connections, member)))
    }
    await Promise.all(refreshed)
  }

  async #recover (connection: Connection, channel: string, since: Position): Promise<SubscribeResult> {
    const { recovered, offset, epoch } = await this.#hub.joinSince(connection, channel, since)
    this.#metrics.recovery(recovered)
    return { recovered, offset, epoch }
  }

  async #announce (connection: Connection, channel: string): Promise<void> {
    try {
      await this.#presence.add(channel, [member(connection)])
    } catch (error) {
      connection.left(channel)
      this.#hub.leave(connection, channel)
      throw error
    }
  }

  async #leave (connection: Connection, channel: string): Promise<void> {
    this.#hub.leave(connection, channel)
    // While Redis is away the entry can not be removed; it expires by itself.
    if (this.#namespaces.rules(channel).presence) await this.#presence.remove(channel, connection.id).catch(() => {})
  }

  #ofUser (user: string): Set<Connection> {
    let connections = this.#users.get(user)
    if (connections === undefined) this.#users.set(user, connections = new Set())
    return connections
  }
}

function member ({ id, user, info }: Connection): Member {
  return info === undefined ? { client: id, user } : { client: id, user, info }
}
