import { Batch } from '../model/batch.ts'
import type { ChannelRules } from '../model/channel-rules.ts'
import type { Connection } from '../core/connection.ts'
import type { HistoryReads } from './history-reads.ts'
import type { Joining } from './joining.ts'
import { Pending } from './pending.ts'
import { framesOf } from '../core/protocol.ts'
import type { Frame } from '../core/protocol.ts'
import type { Position, Publication } from '../model/publication.ts'

/** A channel on this instance: who is in it or on the way in, and what is published there and has not left yet. */
export class Channel {
  readonly name: string
  /** Resolves when the broker delivers. */
  readonly ready: Promise<void>
  /** undefined without history. */
  readonly reads: HistoryReads | undefined
  readonly connections = new Set<Connection>()
  readonly joining = new Set<Joining>()
  /** ms that publications wait for others, so that they leave together; 0: they do not. */
  readonly batchDelay: number
  /** When this fires what is pending leaves, with a batch delay. */
  timer: NodeJS.Timeout | undefined
  /** Unix time in ms since when nobody is in it. */
  emptySince = 0
  /** Publications that a slow connection did not get, because a later one took their place. */
  skipped = 0
  /** undefined: nothing waits to leave. */
  #pending: Pending | undefined
  /** Where only the last value matters: what a connection gets when it has taken what it owes; undefined where everything matters. */
  readonly #latest: Map<Connection, Publication> | undefined
  /** How far the history has brought those who joined: what the broker delivers later than it was read they have already. */
  readonly #reached = new Map<Connection, Position>()

  constructor (name: string, ready: Promise<void>, reads: HistoryReads | undefined, { batchDelay, slow }: ChannelRules) {
    this.name = name
    this.ready = ready
    this.reads = reads
    this.batchDelay = batchDelay
    this.#latest = slow === 'latest' ? new Map() : undefined
  }

  get empty (): boolean { return this.connections.size === 0 && this.joining.size === 0 }

  /** Whether something waits to leave. */
  get waits (): boolean { return this.#pending !== undefined }

  /** Bytes of what waits to leave. */
  get pendingBytes (): number { return this.#pending?.bytes ?? 0 }

  /** From now on it gets what is published. `reached`: how far the history has brought it. */
  admit (joining: Joining, connection: Connection, reached: Position | undefined): void {
    this.joining.delete(joining)
    this.connections.add(connection)
    this.#pending?.giveAll(connection) // `joining` has them
    if (reached !== undefined) this.#reached.set(connection, reached)
    connection.joined(this.name)
  }

  forget (connection: Connection): void {
    this.connections.delete(connection)
    this.#reached.delete(connection)
    this.#pending?.given.delete(connection)
    this.#latest?.delete(connection)
  }

  /** It leaves with the next `flush`. */
  push (publication: Publication): void {
    this.#pending ??= new Pending()
    this.#pending.push(publication)
  }

  /** Encoded and framed once per protocol: every connection that speaks it gets the same bytes. */
  flush (): void {
    const pending = this.#pending
    if (pending === undefined) return
    this.#pending = undefined
    for (const connection of this.connections) this.#send(connection, pending, pending.given.get(connection) ?? 0)
  }

  /** Sends one connection what is pending, ahead of something that is to come after it. */
  flushTo (connection: Connection): void {
    const pending = this.#pending
    if (pending === undefined) return
    const from = pending.given.get(connection) ?? 0
    pending.giveAll(connection)
    this.#send(connection, pending, from)
  }

  /** What is pending from here on, less what this connection has already or is too slow for. */
  #send (connection: Connection, pending: Pending, from: number): void {
    const count = pending.publications.length - from
    if (count === 0) return
    if (this.#latest === undefined && !this.#reached.has(connection)) return connection.writeBatch(pending.batch(connection.wire, this.name, from))
    let fresh = pending.publications.slice(from).filter(publication => !this.#hasAlready(connection, publication))
    if (this.#latest !== undefined) fresh = this.#unlessSlow(connection, this.#latest, fresh)
    if (fresh.length === count) connection.writeBatch(pending.batch(connection.wire, this.name, from))
    else if (fresh.length > 0) connection.writeBatch(new Batch(framesOf(connection.wire, this.name, fresh)))
  }

  #hasAlready (connection: Connection, { offset, epoch }: Publication): boolean {
    const position = this.#reached.get(connection)
    if (position === undefined || offset === 0) return false
    if (offset <= position.offset && epoch === position.epoch) return true
    this.#reached.delete(connection)
    return false
  }

  /** A connection that owes something is not given more: of all that comes meanwhile it gets the last. */
  #unlessSlow (connection: Connection, latest: Map<Connection, Publication>, fresh: Publication[]): Publication[] {
    const newest = fresh.at(-1)
    if (newest === undefined) return fresh
    if (latest.has(connection)) this.skipped++
    if (!connection.isCongested()) {
      latest.delete(connection)
      return fresh
    }
    this.skipped += fresh.length - 1
    latest.set(connection, newest)
    return []
  }

  /** It has taken what it owed, or will get nothing any more after this. */
  sendLatest (connection: Connection): void {
    const publication = this.#latest?.get(connection)
    if (publication === undefined) return
    this.#latest?.delete(connection)
    connection.writeBatch(new Batch([connection.wire.publication(this.name, publication)]))
  }

  /** A join or a leave, to those who want to know. */
  sendEvent (event: Publication): void {
    const frames: Array<Frame | undefined> = []
    for (const connection of this.connections) {
      if (!connection.wantsEvents(this.name)) continue
      const { wire } = connection
      const frame = frames[wire.index] ??= wire.event(this.name, event)
      if (frame !== undefined) connection.write(frame)
    }
  }
}
