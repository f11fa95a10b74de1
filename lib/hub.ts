import { Batch } from './batch.ts'
import type { Broker, History } from './broker.ts'
import { catchUp, topOf } from './catch-up.ts'
import type { Admission } from './catch-up.ts'
import type { ChannelNamespaces } from './channels.ts'
import type { Connection } from './connection.ts'
import type { Position, Publication } from './publication.ts'

/** ms that an empty channel stays subscribed: somebody who reloads a page comes back to it. */
const LINGER = 1_000
/** Bytes around a publication's data in a reply: names, offset. */
const FRAMING = 32

interface NextRead {
  /** Offset after which it reads. */
  from: number
  readonly history: Promise<History>
}

/** Who is in a channel on this instance. */
class Channel {
  readonly connections = new Set<Connection>()
  readonly joining = new Set<Joining>()
  /** Published in this turn of the event loop. */
  pending: Publication[] = []
  /** How far the history has brought those who joined: what the broker delivers later than it was read they have already. */
  readonly reached = new Map<Connection, Position>()
  /** The history read that is under way, and the one after it. */
  reading: Promise<unknown> | undefined
  nextRead: NextRead | undefined
  /** Resolves when the broker delivers. */
  readonly ready: Promise<void>
  emptySince = 0

  constructor (ready: Promise<void>) {
    this.ready = ready
  }

  get empty (): boolean { return this.connections.size === 0 && this.joining.size === 0 }
}

/** A connection on its way into a channel. What is published meanwhile waits, so that nothing is missed and nothing comes before the answer. */
export class Joining {
  readonly #hub: Hub
  readonly #connection: Connection
  readonly #name: string
  readonly since: Position | undefined
  #live: Publication[] = []
  #history: History | undefined

  constructor (hub: Hub, connection: Connection, name: string, since: Position | undefined) {
    this.#hub = hub
    this.#connection = connection
    this.#name = name
    this.since = since
  }

  receive (publication: Publication): void {
    if (publication.kind !== 'join' && publication.kind !== 'leave') this.#live.push(publication)
  }

  /** What the channel holds is known; what came before it was read is in there. */
  read (history: History): void {
    this.#history = history
  }

  /** Of what it would recover. */
  get bytes (): number {
    const after = this.since?.offset ?? Infinity
    return this.#history?.publications.reduce((sum, publication) => publication.offset > after ? sum + sizeOf(publication) : sum, 0) ?? 0
  }

  /** What it missed is too much for it: it recovers nothing. */
  giveUp (): void {
    if (this.#history !== undefined) this.#history = { ...this.#history, publications: [] }
  }

  /**
   * From now on, which is synchronous, publications go to the connection; the caller sends it what it begins with.
   * undefined: there is a hole, and it must begin anew. With `onlyRecovered` one that has not recovered is not let in.
   */
  admit (onlyRecovered = false): Admission | undefined {
    const live = this.#live
    this.#live = []
    const admission = this.#history && catchUp(this.since, this.#history, live.filter(({ offset }) => offset !== 0))
    if (onlyRecovered && admission?.recovered === false) return admission
    this.#hub.admit(this, this.#connection, this.#name, admission && { offset: topOf(admission), epoch: admission.epoch })
    if (this.#history === undefined) return { recovered: false, missed: [], live, offset: 0, epoch: '' }
    admission?.live.push(...live.filter(({ offset }) => offset === 0))
    return admission
  }

  abort (): void {
    this.#hub.abort(this, this.#name)
  }
}

/** Which connections of this instance are in which channel. Subscribes the broker to channels that have somebody, and to no others. */
export class Hub {
  readonly #broker: Broker
  readonly #namespaces: ChannelNamespaces
  readonly #maxRecovery: number
  readonly #channels = new Map<string, Channel>()
  readonly #empty = new Set<string>()
  /** Channels with something pending. */
  readonly #dirty = new Map<string, Channel>()

  /** `maxRecovery`: bytes of what one subscriber may recover; a client that can not take more would be dropped for it, come back and be dropped again. */
  constructor (broker: Broker, namespaces: ChannelNamespaces, maxRecovery: number) {
    this.#broker = broker
    this.#namespaces = namespaces
    this.#maxRecovery = maxRecovery
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

  /**
   * Resolves when publications arrive, and then wait for `admit`. First one in subscribes the broker and waits for it, like everybody
   * who comes meanwhile. With `positioned` the channel's position, and what was published after `since`, is read.
   */
  async join (connection: Connection, name: string, positioned: boolean, since: Position | undefined): Promise<Joining> {
    const joining = new Joining(this, connection, name, since)
    const channel = this.#enter(name, joining)
    try {
      await channel.ready
      if (positioned) joining.read(await this.#read(name, channel, since))
      if (joining.bytes > this.#maxRecovery) joining.giveUp()
      return joining
    } catch (error) {
      joining.abort()
      throw error
    }
  }

  /** The last one out leaves the broker a moment later. */
  leave (connection: Connection, name: string): void {
    this.flush()
    const channel = this.#channels.get(name)
    channel?.connections.delete(connection)
    channel?.reached.delete(connection)
    this.#checkEmpty(name, channel)
  }

  /** What arrives for a channel in one turn of the event loop leaves together, in one write per connection. */
  deliver (name: string, publication: Publication): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    for (const joining of channel.joining) joining.receive(publication)
    if (publication.kind === 'join' || publication.kind === 'leave') return this.#deliverEvent(channel, name, publication)
    if (this.#dirty.size === 0) setImmediate(() => this.flush())
    channel.pending.push(publication)
    this.#dirty.set(name, channel)
  }

  /** Encoded and framed once per protocol: every connection that speaks it gets the same bytes. Before anything else is sent, so that order is kept. */
  flush (): void {
    for (const [name, channel] of this.#dirty) {
      this.#dirty.delete(name)
      const { pending } = channel
      channel.pending = []
      const batches: Batch[] = []
      for (const connection of channel.connections) {
        const { wire } = connection
        const fresh = channel.reached.has(connection) ? pending.filter(publication => !hasAlready(channel.reached, connection, publication)) : pending
        if (fresh.length === pending.length) connection.writeBatch(batches[wire.index] ??= new Batch(wire.publications(name, pending)))
        else if (fresh.length > 0) connection.writeBatch(new Batch(wire.publications(name, fresh)))
      }
    }
  }

  #deliverEvent (channel: Channel, name: string, event: Publication): void {
    this.flush()
    for (const connection of channel.connections) {
      const frame = connection.wantsEvents(name) ? connection.wire.event(name, event) : undefined
      if (frame !== undefined) connection.write(frame)
    }
  }

  /** Positions in this channel mean nothing any more. */
  renewed (name: string): void {
    this.flush()
    for (const connection of Array.from(this.#channels.get(name)?.connections ?? [])) connection.wire.renewed(connection, name)
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

  /** Called by a Joining. */
  admit (joining: Joining, connection: Connection, name: string, reached: Position | undefined): void {
    this.flush() // `joining` knows what is pending
    const channel = this.#channels.get(name)
    channel?.joining.delete(joining)
    channel?.connections.add(connection)
    if (reached !== undefined) channel?.reached.set(connection, reached)
    connection.joined(name)
  }

  /** Called by a Joining. */
  abort (joining: Joining, name: string): void {
    const channel = this.#channels.get(name)
    channel?.joining.delete(joining)
    this.#checkEmpty(name, channel)
  }

  #enter (name: string, joining: Joining): Channel {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      const entered = channel = new Channel(this.#broker.subscribe(name, this.#namespaces.history(name) !== undefined))
      this.#channels.set(name, entered)
      entered.ready.catch(() => this.#forget(name)) // whoever waits for it is told; the next one to come tries again
    }
    channel.joining.add(joining)
    this.#empty.delete(name)
    return channel
  }

  #forget (name: string): void {
    this.#channels.delete(name)
    this.#empty.delete(name)
  }

  #checkEmpty (name: string, channel: Channel | undefined): void {
    if (channel === undefined || !channel.empty || this.#channels.get(name) !== channel) return
    channel.emptySince = Date.now()
    this.#empty.add(name)
  }

  /**
   * Who comes while a read is under way shares the next one. When an instance goes, all its clients come back at once, each with a
   * position of its own: as many reads of the same history would keep Redis from everything else.
   */
  #read (name: string, channel: Channel, since: Position | undefined): Promise<History> {
    const from = since?.offset ?? Infinity
    const { reading, nextRead } = channel
    if (nextRead !== undefined) {
      nextRead.from = Math.min(nextRead.from, from)
      return nextRead.history
    }
    if (reading === undefined) return this.#readFrom(name, channel, from)
    const next: NextRead = {
      from,
      history: reading.then(() => {
        channel.nextRead = undefined
        return this.#readFrom(name, channel, next.from)
      })
    }
    channel.nextRead = next
    return next.history
  }

  /** Infinity: the position alone. Whose epoch is another one is found out by each for itself. */
  #readFrom (name: string, channel: Channel, from: number): Promise<History> {
    const query = from === Infinity ? { limit: 0 } : { limit: this.#namespaces.history(name)?.size ?? 0, since: { offset: from, epoch: '' } }
    const history = this.#broker.history(name, query)
    const done = () => { channel.reading = undefined }
    channel.reading = history.then(done, done)
    return history
  }
}

/** Bytes that a publication takes in a reply, about. */
function sizeOf ({ payload, tags, publisher }: Publication): number {
  const extra = tags === undefined && publisher === undefined ? 0 : JSON.stringify({ tags, publisher }).length
  return payload.length + extra + FRAMING
}

function hasAlready (reached: Map<Connection, Position>, connection: Connection, { offset, epoch }: Publication): boolean {
  const position = reached.get(connection)
  if (position === undefined || offset === 0) return false
  if (offset <= position.offset && epoch === position.epoch) return true
  reached.delete(connection)
  return false
}
