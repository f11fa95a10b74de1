import type { Broker } from './broker.ts'
import { catchUp } from './catch-up.ts'
import type { Recovery } from './catch-up.ts'
import type { ChannelNamespaces } from './channels.ts'
import type { Connection } from './connection.ts'
import { UnrecoverablePositionError } from './errors.ts'
import type { Frame } from './protocol.ts'
import type { Position, Publication } from './publication.ts'

/** ms that an empty channel stays subscribed: somebody who reloads a page comes back to it. */
const LINGER = 1_000

/** Who is in a channel on this instance. */
class Channel {
  readonly connections = new Set<Connection>()
  /** Publications for connections that are still reading the history. */
  readonly catchingUp = new Set<Publication[]>()
  /** Resolves when the broker delivers. */
  readonly ready: Promise<void>
  /** Connections on their way in. */
  joining = 0
  emptySince = 0

  constructor (ready: Promise<void>) {
    this.ready = ready
  }

  get empty (): boolean { return this.connections.size === 0 && this.joining === 0 }
}

/** Which connections of this instance are in which channel. Subscribes the broker to channels that have somebody, and to no others. */
export class Hub {
  readonly #broker: Broker
  readonly #namespaces: ChannelNamespaces
  readonly #channels = new Map<string, Channel>()
  readonly #empty = new Set<string>()

  constructor (broker: Broker, namespaces: ChannelNamespaces) {
    this.#broker = broker
    this.#namespaces = namespaces
  }

  /** Channels that have somebody here. */
  get channels (): number { return this.#channels.size - this.#empty.size }

  get subscriptions (): number {
    let count = 0
    for (const { connections } of this.#channels.values()) count += connections.size
    return count
  }

  * occupied (): Iterable<[channel: string, connections: ReadonlySet<Connection>]> {
    for (const [name, { connections }] of this.#channels) {
      if (connections.size > 0) yield [name, connections]
    }
  }

  /** Resolves when publications arrive. First one in subscribes the broker and waits for it, like everybody who comes meanwhile. */
  async join (connection: Connection, name: string): Promise<void> {
    const channel = this.#enter(name)
    try {
      await channel.ready
      if (connection.open) channel.connections.add(connection)
    } finally {
      channel.joining--
      this.#checkEmpty(name, channel)
    }
  }

  /** As `join`, but with what was published after `since` first. */
  async joinSince (connection: Connection, name: string, since: Position): Promise<Recovery> {
    const channel = this.#enter(name)
    const live: Publication[] = []
    try {
      await channel.ready
      channel.catchingUp.add(live)
      const recovery = catchUp(since, await this.#readSince(name, since), live)
      for (const publication of recovery.publications) connection.write(connection.wire.publication(name, publication))
      if (connection.open) channel.connections.add(connection)
      return recovery
    } finally {
      channel.catchingUp.delete(live)
      channel.joining--
      this.#checkEmpty(name, channel)
    }
  }

  /** The last one out leaves the broker a moment later. */
  leave (connection: Connection, name: string): void {
    const channel = this.#channels.get(name)
    channel?.connections.delete(connection)
    this.#checkEmpty(name, channel)
  }

  /** Encoded once per protocol; every connection that speaks it gets the same bytes. */
  deliver (name: string, publication: Publication): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    for (const live of channel.catchingUp) live.push(publication)
    const frames: Frame[] = []
    for (const connection of channel.connections) {
      const { wire } = connection
      connection.write(frames[wire.index] ??= wire.publication(name, publication))
    }
  }

  /** Unsubscribes the broker from channels that have been empty for a while. */
  sweep (now: number): void {
    for (const name of this.#empty) {
      const channel = this.#channels.get(name)
      if (channel === undefined || now - channel.emptySince < LINGER) continue
      this.#forget(name)
      this.#broker.unsubscribe(name)
    }
  }

  #forget (name: string): void {
    this.#channels.delete(name)
    this.#empty.delete(name)
  }

  #enter (name: string): Channel {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      const entered = channel = new Channel(this.#broker.subscribe(name, this.#namespaces.history(name) !== undefined))
      this.#channels.set(name, entered)
      entered.ready.catch(() => this.#forget(name)) // whoever waits for it is told; the next one to come tries again
    }
    channel.joining++
    this.#empty.delete(name)
    return channel
  }

  #checkEmpty (name: string, channel: Channel | undefined): void {
    if (channel === undefined || !channel.empty || this.#channels.get(name) !== channel) return
    channel.emptySince = Date.now()
    this.#empty.add(name)
  }

  async #readSince (name: string, since: Position) {
    const limit = this.#namespaces.history(name)?.size ?? 0
    try {
      return await this.#broker.history(name, { limit, since })
    } catch (error) {
      if (error instanceof UnrecoverablePositionError) return this.#broker.history(name, { limit: 0 })
      throw error
    }
  }
}
