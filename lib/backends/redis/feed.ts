import type { ChannelListener, History } from '../../model/broker.ts'
import type { Position, Publication } from '../../model/publication.ts'
import type { ReadHistory } from './history.ts'
import type { KnownPosition } from './known-positions.ts'
import { decodePublication } from './wire-format.ts'

/** Publications buffered at most. With more of them the repair is not going to finish in time. */
const MAX_BUFFERED = 1_000
/** Publishing instances whose sequence is remembered per channel. */
const MAX_INSTANCES = 1_000
const SPACE = 32
/** Of a position: which publication is there. */
const UNKNOWN = { instance: '', time: Infinity }
const HISTORY_LOST = 'Redis has lost the history of this channel'

/** What a feed needs of its broker. */
export interface FeedOwner {
  /** Called for every publication that is buffered: the feed needs a repair. */
  gapFound (feed: RedisFeed): void
  /** Called for a message after `close`: Redis has not got the unsubscribe yet, or never will. */
  leftOver (feed: RedisFeed): void
}

/**
 * Delivers the publications of one channel in order. Pub/Sub loses messages whenever its Redis connection breaks. A
 * repair then reads the missing ones from the stream, before anything newer is delivered.
 *
 * A channel without history is always live. A channel with history has three states:
 *
 * - **live**: each publication follows the one before, and is delivered.
 * - **buffering**, the first state: there may be a gap, so publications wait for a repair.
 * - **replaying**: publications still wait, while a repair delivers what it reads from the stream.
 *
 * live → buffering: `markGap`; `verify` if the stream is ahead or has another epoch; a publication after a gap, or with
 * an offset that was given before.
 * buffering → replaying: `replay`.
 * buffering or replaying → live: `finishReplay`, unless another gap was marked since the repair began; more than
 * `MAX_BUFFERED` publications, in which case the gap is reported as lost.
 */
export class RedisFeed {
  readonly channel: string
  readonly pubsub: string
  readonly listener: ChannelListener
  readonly #hasHistory: boolean
  readonly #owner: FeedOwner
  /** Position of the last publication delivered; undefined until the first read. */
  #position: KnownPosition | undefined
  /** The epoch before that of the position. */
  #left: string | undefined
  /** Publications that arrived while buffering; undefined while live. */
  #buffered: Publication[] | undefined
  /** Unix time in milliseconds at which the position was last known to be up to date. */
  verifiedAt = Date.now()
  /** Number of gaps marked so far. A repair closes only the gaps that were marked before it began. */
  #generation = 0
  /** Last sequence of each publishing instance, for publications without a position. */
  readonly #sequences = new Map<string, number>()
  #closed = false

  constructor (channel: string, pubsub: string, hasHistory: boolean, listener: ChannelListener, owner: FeedOwner) {
    this.channel = channel
    this.pubsub = pubsub
    this.#hasHistory = hasHistory
    this.listener = listener
    this.#owner = owner
    if (hasHistory) this.#buffered = []
  }

  /** True in the states buffering and replaying. */
  get buffering (): boolean { return this.#buffered !== undefined }

  /** Position after which a repair reads. undefined before the first repair, which reads no publications. */
  get since (): KnownPosition | undefined { return this.#position }

  get generation (): number { return this.#generation }

  /** Ends delivery: the channel has no subscriber here any more. */
  close (): void {
    this.#closed = true
  }

  /** Takes a Pub/Sub message. MUST NOT throw: see `MessageListener`. */
  readonly receive = (bytes: Buffer): void => {
    if (this.#closed) return this.#owner.leftOver(this)
    const first = bytes.indexOf(SPACE)
    const second = bytes.indexOf(SPACE, first + 1)
    const offset = Number(bytes.toString('latin1', 0, first))
    const publication = decodePublication(bytes.subarray(second + 1), offset, bytes.toString('latin1', first + 1, second))
    // Another program writes to our Pub/Sub channels.
    if (publication === undefined || Number.isNaN(offset)) return this.listener.missed(1, 'it is not in the format of this package')
    if (offset !== 0) return this.#receivePositioned(publication)
    const { instance, sequence } = publication
    if (sequence !== 0) {
      const last = this.#sequences.get(instance)
      if (last !== undefined && sequence === last + 1) this.#sequences.set(instance, sequence)
      else this.#sequenceJumped(instance, last, sequence)
    }
    this.listener.deliver(publication)
  }

  /** Starts buffering: publications may be missing. Does nothing without history: only the next sequence can tell. */
  markGap (): void {
    if (!this.#hasHistory) return
    this.#generation++
    this.#buffered ??= []
  }

  /** Marks a gap if the stream is ahead: the last messages were lost while the Redis connection seemed fine. */
  verify (top: Position): void {
    this.verifiedAt = Date.now()
    const position = this.#position
    if (position !== undefined && (top.epoch !== position.epoch || top.offset > position.offset)) this.markGap()
  }

  /** Delivers a publication that a repair read from the stream after `since`. */
  replay (publication: Publication): void {
    this.#deliverNext(publication)
  }

  /**
   * Delivers the last part of a repair, then the buffered publications, and goes live. The first repair delivers only
   * what is buffered: it reads the position, and the publication there.
   * @param generation Value of `generation` when the repair began.
   */
  finishReplay (read: History, generation: number): void {
    if (this.#buffered === undefined) return // the feed gave this repair up and has reported the gap
    const top = Math.min(read.offset, this.#firstBuffered(read) - 1)
    if (this.#position === undefined) this.#begin(read, top)
    else for (const publication of read.publications) this.#deliverNext(publication)
    // Publications that are neither in the stream nor buffered are lost.
    if (this.#position?.epoch === read.epoch) this.#reportGap(top)
    if (generation === this.#generation) this.#flushBuffered()
  }

  /**
   * Continues in another epoch: Redis has lost the stream, or its newest publications. How many were lost undelivered
   * cannot be known: at least one is reported. If the epoch continues the last one, what that has left is delivered.
   */
  beginEpoch ({ epoch, base, previous }: Pick<ReadHistory, 'epoch' | 'base' | 'previous'>): void {
    const buffered = this.#buffered ?? []
    const old = this.#position?.epoch
    this.#buffered = buffered.filter(publication => publication.epoch !== old)
    for (const publication of buffered) {
      // Up to the base they are in the stream, where others may have had the offsets before: those are not replayed.
      if (publication.epoch === old && (old !== previous || publication.offset > base)) this.#deliverNext(publication)
    }
    const offset = this.#position?.offset ?? 0
    this.listener.positionLost()
    if (old === previous) this.listener.missed(Math.max(1, offset - base), 'Redis has lost the newest publications of this channel')
    else if (offset > 0) this.listener.missed(1, HISTORY_LOST) // else nothing was published in the old epoch
    this.#left = old
    this.#position = { offset: old === previous ? Math.min(offset, base) : base, epoch, ...UNKNOWN }
  }

  /** Reports a gap in an instance's sequence. A 1 is no gap: an instance that forgot the channel starts again there. */
  #sequenceJumped (instance: string, last: number | undefined, sequence: number): void {
    if (last === undefined && this.#sequences.size >= MAX_INSTANCES) this.#sequences.clear()
    if (last === undefined || sequence > last || sequence === 1) this.#sequences.set(instance, sequence)
    if (last !== undefined && sequence > last) {
      this.listener.missed(sequence - last - 1, 'Redis Pub/Sub lost them and this channel has no history')
    }
  }

  #receivePositioned (publication: Publication): void {
    // Of the epoch before: it came late, and was replayed or reported. Or Redis has gone back to that epoch.
    if (publication.epoch === this.#left) this.markGap()
    else if (this.#buffered !== undefined) {
      this.#buffered.push(publication)
      if (this.#buffered.length > MAX_BUFFERED) this.#stopWaiting()
    } else if (this.#follows(publication)) {
      this.#deliver(publication)
    } else if (publication.epoch === this.#position?.epoch) {
      if (publication.offset > this.#position.offset) this.#buffered = [publication]
      // An offset that was given before is a duplicate from before a repair, unless its publication is younger.
      else if (publication.time > this.#position.time) this.markGap()
    }
    if (this.#buffered !== undefined) this.#owner.gapFound(this)
  }

  /** Drops buffered publications that a long repair has delivered. If too many remain, goes live without the repair. */
  #stopWaiting (): void {
    this.#buffered = this.#buffered?.filter(({ offset, epoch }) => epoch !== this.#position?.epoch || offset > this.#position.offset) ?? []
    if (this.#buffered.length > MAX_BUFFERED) this.#flushBuffered()
  }

  #begin ({ epoch, publications }: History, top: number): void {
    const { instance, time } = publications.find(({ offset }) => offset === top) ?? UNKNOWN
    this.#position = { offset: top, epoch, instance, time }
  }

  #firstBuffered ({ epoch }: Position): number {
    return this.#buffered?.find(publication => publication.epoch === epoch)?.offset ?? Infinity
  }

  #flushBuffered (): void {
    const buffered = this.#buffered ?? []
    this.#buffered = undefined
    for (const publication of buffered) this.#deliverNext(publication)
  }

  /** Delivers a publication unless it is a duplicate. Reports the gap before it, if there is one. */
  #deliverNext (publication: Publication): void {
    if (publication.epoch === this.#position?.epoch) {
      if (publication.offset <= this.#position.offset) return
      this.#reportGap(publication.offset - 1)
    }
    this.#deliver(publication)
  }

  /** Reports the publications up to `offset` as lost and continues after it. */
  #reportGap (offset: number): void {
    const position = this.#position
    if (position === undefined || offset <= position.offset) return
    this.listener.positionLost()
    this.listener.missed(offset - position.offset, 'the history of this channel no longer holds them')
    this.#position = { offset, epoch: position.epoch, ...UNKNOWN }
  }

  /** True if nothing is missing before this publication. A new epoch follows: the old one expired or was evicted. */
  #follows ({ epoch, offset }: Publication): boolean {
    return this.#position === undefined || epoch !== this.#position.epoch || offset === this.#position.offset + 1
  }

  #deliver (publication: Publication): void {
    const { offset, epoch, instance, time } = publication
    const before = this.#position
    if (before !== undefined && before.epoch !== epoch) {
      this.listener.positionLost()
      if (before.offset > 0) this.listener.missed(1, HISTORY_LOST) // clients that recover begin after this one
      this.#left = before.epoch
    }
    this.#position = { offset, epoch, instance, time }
    this.verifiedAt = Date.now()
    this.listener.deliver(publication)
  }
}
