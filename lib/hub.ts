import { Batch } from './batch.ts'
import type { Broker, History } from './broker.ts'
import { catchUp, topOf } from './catch-up.ts'
import type { Admission } from './catch-up.ts'
import type { ChannelNamespaces, ChannelRules } from './channels.ts'
import type { Connection } from './connection.ts'
import { Pending } from './pending.ts'
import { framesOf } from './protocol.ts'
import type { Frame } from './protocol.ts'
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
  /** ms that publications wait for others, so that they leave together; 0: as long as this turn of the event loop takes. */
  readonly batchDelay: number
  pending = new Pending()
  /** When this fires what is pending leaves, with a batch delay. */
  timer: NodeJS.Timeout | undefined
  /** Where only the last value matters: what a connection gets when it has taken what it owes; undefined where everything matters. */
  readonly latest: Map<Connection, Publication> | undefined
  /** How far the history has brought those who joined: what the broker delivers later than it was read they have already. */
  readonly reached = new Map<Connection, Position>()
  /** The history read that is under way, and the one after it. */
  reading: Promise<unknown> | undefined
  nextRead: NextRead | undefined
  /** Resolves when the broker delivers. */
  readonly ready: Promise<void>
  emptySince = 0

  constructor (ready: Promise<void>, { batchDelay, slow }: ChannelRules) {
    this.ready = ready
    this.batchDelay = batchDelay
    this.latest = slow === 'latest' ? new Map() : undefined
  }

  get empty (): boolean { return this.connections.size === 0 && this.joining.size === 0 }

  forget (connection: Connection): void {
    this.connections.delete(connection)
    this.reached.delete(connection)
    this.pending.given.delete(connection)
    this.latest?.delete(connection)
  }
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
  /** Bytes of what is pending in a channel at which it leaves at once. */
  readonly #maxBatch: number
  readonly #channels = new Map<string, Channel>()
  readonly #empty = new Set<string>()
  /** Channels with something pending that leaves at the end of this turn of the event loop. */
  #due: Array<[name: string, channel: Channel]> = []
  /** Channels with something pending. */
  #waiting = 0
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
  get skipped (): number { return this.#skipped }

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
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    if (connection.open) {
      this.#give(connection, name, channel)
      this.#giveLatest(connection, name, channel)
    }
    channel.forget(connection)
    this.#checkEmpty(name, channel)
  }

  /** What arrives for a channel in one turn of the event loop, or within its batch delay, leaves together, in one write per connection. */
  deliver (name: string, publication: Publication): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    for (const joining of channel.joining) joining.receive(publication)
    if (publication.kind === 'join' || publication.kind === 'leave') return this.#deliverEvent(channel, name, publication)
    if (channel.pending.push(publication) === 1) this.#schedule(name, channel)
    // In one piece that is too large everybody would owe too much at once.
    if (channel.pending.bytes >= this.#maxBatch) this.#flush(name, channel)
  }

  /** Whether everybody in this channel has taken enough of what it was sent to be given a batch more. */
  keepsUp (name: string): boolean {
    const channel = this.#channels.get(name)
    if (channel === undefined || channel.pending.publications.length > 0) return true // less than a batch waits
    for (const connection of channel.connections) {
      this.flushTo(connection)
      if (connection.open && connection.owed > this.#maxRecovery) return false
    }
    return true
  }

  #schedule (name: string, channel: Channel): void {
    this.#waiting++
    if (channel.batchDelay > 0) channel.timer = setTimeout(() => this.#flush(name, channel), channel.batchDelay).unref()
    else if (this.#due.push([name, channel]) === 1) setImmediate(this.#flushDue)
  }

  readonly #flushDue = (): void => {
    const due = this.#due
    this.#due = []
    for (const [name, channel] of due) this.#flush(name, channel)
  }

  /** Encoded and framed once per protocol: every connection that speaks it gets the same bytes. */
  #flush (name: string, channel: Channel): void {
    const { pending } = channel
    if (pending.publications.length === 0) return // it has left early
    this.#waiting--
    clearTimeout(channel.timer)
    channel.pending = new Pending()
    for (const connection of channel.connections) this.#send(connection, name, channel, pending, pending.given.get(connection) ?? 0)
  }

  /** Sends one connection what is pending in its channels, ahead of something that is to come after it. */
  flushTo (connection: Connection): void {
    if (this.#waiting === 0) return
    for (const name of connection.channels) {
      const channel = this.#channels.get(name)
      if (channel !== undefined) this.#give(connection, name, channel)
    }
  }

  #give (connection: Connection, name: string, channel: Channel): void {
    const { pending } = channel
    const from = pending.given.get(connection) ?? 0
    if (from === pending.publications.length) return
    pending.given.set(connection, pending.publications.length)
    this.#send(connection, name, channel, pending, from)
  }

  /** What is pending from here on, less what this connection has already or is too slow for. */
  #send (connection: Connection, name: string, { reached, latest }: Channel, pending: Pending, from: number): void {
    const count = pending.publications.length - from
    if (count === 0) return
    if (latest === undefined && !reached.has(connection)) return connection.writeBatch(pending.batch(connection.wire, name, from))
    let fresh = pending.publications.slice(from).filter(publication => !hasAlready(reached, connection, publication))
    if (latest !== undefined) fresh = this.#unlessSlow(connection, latest, fresh)
    if (fresh.length === count) connection.writeBatch(pending.batch(connection.wire, name, from))
    else if (fresh.length > 0) connection.writeBatch(new Batch(framesOf(connection.wire, name, fresh)))
  }

  /** A connection that owes something is not given more: of all that comes meanwhile it gets the last. */
  #unlessSlow (connection: Connection, latest: Map<Connection, Publication>, fresh: Publication[]): Publication[] {
    const newest = fresh.at(-1)
    if (newest === undefined) return fresh
    if (latest.has(connection)) this.#skipped++
    if (!connection.congested) {
      latest.delete(connection)
      return fresh
    }
    this.#skipped += fresh.length - 1
    latest.set(connection, newest)
    return []
  }

  /** It has taken what it owed, or will get nothing any more after this. */
  drained (connection: Connection): void {
    for (const name of connection.channels) {
      const channel = this.#channels.get(name)
      if (channel !== undefined) this.#giveLatest(connection, name, channel)
    }
  }

  #giveLatest (connection: Connection, name: string, { latest }: Channel): void {
    const publication = latest?.get(connection)
    if (publication === undefined) return
    latest?.delete(connection)
    connection.writeBatch(new Batch([connection.wire.publication(name, publication)]))
  }

  #deliverEvent (channel: Channel, name: string, event: Publication): void {
    this.#flush(name, channel)
    const frames: Array<Frame | undefined> = []
    for (const connection of channel.connections) {
      if (!connection.wantsEvents(name)) continue
      const { wire } = connection
      const frame = frames[wire.index] ??= wire.event(name, event)
      if (frame !== undefined) connection.write(frame)
    }
  }

  /** Positions in this channel mean nothing any more. */
  renewed (name: string): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    this.#flush(name, channel)
    for (const connection of Array.from(channel.connections)) connection.wire.renewed(connection, name)
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
    const channel = this.#channels.get(name)
    channel?.joining.delete(joining)
    channel?.connections.add(connection)
    if (channel !== undefined && channel.pending.publications.length > 0) channel.pending.given.set(connection, channel.pending.publications.length) // `joining` has them
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
      const entered = channel = new Channel(this.#broker.subscribe(name, this.#namespaces.history(name) !== undefined), this.#namespaces.rules(name))
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
