import type { Broker } from '../model/broker.ts'
import { Channel } from './channel.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { Connection } from '../core/connection.ts'
import { HistoryReads } from './history-reads.ts'
import { Joining } from './joining.ts'
import type { Position, Publication } from '../model/publication.ts'

/** ms that an empty channel stays subscribed: somebody who reloads a page comes back to it. */
const LINGER = 1_000

/** Which connections of this instance are in which channel. Subscribes the broker to channels that have somebody, and to no others. */
export class Hub {
  readonly #broker: Broker
  readonly #namespaces: ChannelNamespaces
  readonly #maxRecovery: number
  /** Bytes of what is pending in a channel at which it leaves at once. */
  readonly #maxBatch: number
  readonly #channels = new Map<string, Channel>()
  readonly #empty = new Set<Channel>()
  /** Channels with something pending that leaves with the next flush. */
  #due = new Set<Channel>()
  /** Counts flushes of what is due. */
  #flushes = 0
  /** Channels with something pending. */
  #waiting = 0
  /** Publications skipped in channels that are no more. */
  #skipped = 0

  /** `maxRecovery`: bytes of what one subscriber may recover; a client that can not take more would be dropped for it, come back and be dropped again. */
  constructor (broker: Broker, namespaces: ChannelNamespaces, maxRecovery: number) {
    this.#broker = broker
    this.#namespaces = namespaces
    this.#maxRecovery = maxRecovery
    this.#maxBatch = maxRecovery / 2
  }

  /** Channels that have somebody here. */
  get channels (): number { return this.#channels.size - this.#empty.size }

  /** Publications that a slow connection did not get, because a later one took their place. */
  get skipped (): number {
    let count = this.#skipped
    for (const { skipped } of this.#channels.values()) count += skipped
    return count
  }

  get subscriptions (): number {
    let count = 0
    for (const { connections } of this.#channels.values()) count += connections.size
    return count
  }

  * occupied (): Iterable<[channel: string, connections: ReadonlySet<Connection>]> {
    for (const { name, connections } of this.#channels.values()) {
      if (connections.size > 0) yield [name, connections]
    }
  }

  /**
   * Resolves when publications arrive, and then wait for `admit`. First one in subscribes the broker and waits for it, like everybody
   * who comes meanwhile. With `positioned` the channel's position, and what was published after `since`, is read.
   */
  async join (connection: Connection, name: string, positioned: boolean, since: Position | undefined): Promise<Joining> {
    const channel = this.#enter(name)
    const joining = new Joining(this, connection, channel, since)
    channel.joining.add(joining)
    try {
      await channel.ready
      if (positioned && channel.reads !== undefined) joining.read(await channel.reads.after(since?.offset ?? Infinity))
      if (joining.bytes > this.#maxRecovery) joining.giveUp()
      return joining
    } catch (error) {
      joining.abort()
      throw error
    }
  }

  /** Called by a Joining that is not admitted. */
  abort (joining: Joining, channel: Channel): void {
    channel.joining.delete(joining)
    this.#checkEmpty(channel)
  }

  /** The last one out leaves the broker a moment later. */
  leave (connection: Connection, name: string): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    if (connection.open) {
      channel.flushTo(connection)
      channel.sendLatest(connection)
    }
    channel.forget(connection)
    this.#checkEmpty(channel)
  }

  /** What arrives for a channel in one turn of the event loop, or within its batch delay, leaves together. */
  deliver (name: string, publication: Publication): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    for (const joining of channel.joining) joining.receive(publication)
    if (publication.kind === 'join' || publication.kind === 'leave') {
      this.#flush(channel)
      return channel.sendEvent(publication)
    }
    if (!channel.waits) this.#schedule(channel)
    channel.push(publication)
    // In one piece that is too large everybody would owe too much at once.
    if (channel.pendingBytes >= this.#maxBatch) this.#flush(channel)
  }

  #schedule (channel: Channel): void {
    this.#waiting++
    if (channel.batchDelay === 0) this.#makeDue(channel)
    else channel.timer = setTimeout(() => this.#makeDue(channel), channel.batchDelay).unref()
  }

  /**
   * The second immediate comes after the event loop has read, without waiting, what lies ready in the sockets: that leaves in the same
   * write. Writing to hundreds of sockets takes longer than all else in a turn, so what is published in it goes to Redis before.
   */
  #makeDue (channel: Channel): void {
    if (this.#due.size === 0) setImmediate(setImmediate, this.#flushDue)
    this.#due.add(channel)
  }

  /** One write per connection, also for one that is in several of these channels. */
  readonly #flushDue = (): void => {
    const due = this.#due
    this.#due = new Set()
    const shared = inSeveral(due, ++this.#flushes)
    for (const connection of shared) connection.cork()
    try {
      for (const channel of due) {
        due.delete(channel)
        this.#flush(channel)
      }
    } finally {
      for (const connection of shared) connection.uncork()
      for (const channel of due) this.#makeDue(channel) // one has thrown; that is no reason for the others to wait for ever
    }
  }

  #flush (channel: Channel): void {
    this.#due.delete(channel)
    if (!channel.waits) return // it has left early
    this.#waiting--
    clearTimeout(channel.timer)
    channel.flush()
  }

  /** Sends one connection what is pending in its channels, ahead of something that is to come after it. */
  flushTo (connection: Connection): void {
    if (this.#waiting === 0) return
    for (const name of connection.channels) this.#channels.get(name)?.flushTo(connection)
  }

  /** It has taken what it owed, or will get nothing any more after this. */
  drained (connection: Connection): void {
    for (const name of connection.channels) this.#channels.get(name)?.sendLatest(connection)
  }

  /** Whether everybody in this channel has taken enough of what it was sent to be given a batch more. */
  keepsUp (name: string): boolean {
    const channel = this.#channels.get(name)
    if (channel === undefined || channel.waits) return true // less than a batch waits
    for (const connection of channel.connections) {
      this.flushTo(connection)
      if (connection.open && connection.bufferedBytes > this.#maxRecovery) return false
    }
    return true
  }

  /** Positions in this channel mean nothing any more. */
  renewed (name: string): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    this.#flush(channel)
    for (const connection of Array.from(channel.connections)) connection.wire.renewed(connection, name)
  }

  /** Unsubscribes the broker from channels that have been empty for a while. */
  sweep (now: number): void {
    for (const channel of this.#empty) {
      if (now - channel.emptySince < LINGER) continue
      this.#forget(channel)
      this.#broker.unsubscribe(channel.name)
    }
  }

  #enter (name: string): Channel {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      const entered = channel = this.#open(name)
      this.#channels.set(name, entered)
      entered.ready.catch(() => this.#forget(entered)) // whoever waits for it is told; the next one to come tries again
    }
    this.#empty.delete(channel)
    return channel
  }

  #open (name: string): Channel {
    const history = this.#namespaces.history(name)
    const reads = history && new HistoryReads(from => {
      const query = from === Infinity ? { limit: 0 } : { limit: history.size, since: { offset: from, epoch: '' } }
      return this.#broker.history(name, query)
    })
    return new Channel(name, this.#broker.subscribe(name, history !== undefined), reads, this.#namespaces.rules(name))
  }

  #forget (channel: Channel): void {
    this.#channels.delete(channel.name)
    this.#empty.delete(channel)
    this.#skipped += channel.skipped
  }

  #checkEmpty (channel: Channel): void {
    if (!channel.empty || this.#channels.get(channel.name) !== channel) return
    channel.emptySince = Date.now()
    this.#empty.add(channel)
  }
}

/** Connections that are in more than one of these channels. */
function inSeveral (channels: ReadonlySet<Channel>, flush: number): Set<Connection> {
  const several = new Set<Connection>()
  if (channels.size < 2) return several
  for (const { connections } of channels) {
    for (const connection of connections) {
      if (connection.flushedBy === flush) several.add(connection)
      else connection.flushedBy = flush
    }
  }
  return several
}
