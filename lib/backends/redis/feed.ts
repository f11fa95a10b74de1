import type { ChannelListener, History } from '../../model/broker.ts'
import type { Position, Publication } from '../../model/publication.ts'
import { decodePublication } from './wire-format.ts'

/** Publications that may be buffered for a repair. More of them mean that the repair does not finish in time. */
const MAX_BUFFERED = 1_000
/** Instances whose sequence is remembered per channel. */
const MAX_INSTANCES = 1_000
const SPACE = 32

/** What a feed needs of its broker. */
export interface FeedOwner {
  /** The feed must be repaired before it delivers again. */
  gapFound (feed: RedisFeed): void
  /** A message has arrived after the channel was left: its subscription must still be ended. */
  leftOver (feed: RedisFeed): void
}

/**
 * The publications of one channel on their way from Redis to this instance, put in order. Pub/Sub loses messages
 * whenever a connection breaks; what is missing is read from the stream before anything newer is delivered.
 *
 * In a channel with history the states are: **live** (each publication follows the one before and is delivered),
 * **buffering** (there may be a gap: publications wait), and **replaying** (still buffering, while a repair delivers
 * what it reads from the stream). It starts in buffering. `markGap`, `verify` and a publication that does not follow
 * lead from live to buffering, `replay` delivers meanwhile, and `finishReplay` leads back to live, unless there was
 * another gap since the repair began. Without history it is always live.
 */
export class RedisFeed {
  readonly channel: string
  readonly pubsub: string
  readonly listener: ChannelListener
  readonly #hasHistory: boolean
  readonly #owner: FeedOwner
  /** Position of the last publication delivered; undefined until the first read. */
  #position: Position | undefined
  /** Publications that arrived while buffering; undefined while live. */
  #buffered: Publication[] | undefined
  /** Unix time in milliseconds at which the position was last known to be right. */
  verifiedAt = Date.now()
  /** Number of gaps so far: a repair that began before the last gap does not close it. */
  #generation = 0
  /** In a channel without history: the last sequence of each publishing instance. */
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

  /** True while it waits for a repair. */
  get buffering (): boolean { return this.#buffered !== undefined }

  /**
   * Position after which a repair reads: that of the last publication delivered. undefined: it reads the position
   * alone.
   */
  get since (): Position | undefined { return this.#position }

  get generation (): number { return this.#generation }

  /** Nobody listens any more. */
  close (): void {
    this.#closed = true
  }

  /**
   * Takes a Pub/Sub message. MUST NOT throw: node-redis takes an exception here for a broken connection, and drops
   * what it has read.
   */
  readonly receive = (bytes: Buffer): void => {
    if (this.#closed) return this.#owner.leftOver(this)
    const first = bytes.indexOf(SPACE)
    const second = bytes.indexOf(SPACE, first + 1)
    const offset = Number(bytes.toString('latin1', 0, first))
    const publication = decodePublication(bytes.subarray(second + 1), offset, bytes.toString('latin1', first + 1, second))
    // Some other program writes to our keys.
    if (publication === undefined || Number.isNaN(offset)) return this.listener.missed(1, 'it is not in the form of this package')
    if (offset !== 0) return this.#receivePositioned(publication)
    const { instance, sequence } = publication
    if (sequence !== 0) {
      const last = this.#sequences.get(instance)
      if (last !== undefined && sequence === last + 1) this.#sequences.set(instance, sequence)
      else this.#sequenceJumped(instance, last, sequence)
    }
    this.listener.deliver(publication)
  }

  /**
   * Marks that publications may be missing from now on: the connection broke. Without history only the next sequence
   * can tell.
   */
  markGap (): void {
    if (!this.#hasHistory) return
    this.#generation++
    this.#buffered ??= []
  }

  /** Compares with the top of the stream, to find a message that was lost without a trace before the next one comes. */
  verify (top: Position): void {
    this.verifiedAt = Date.now()
    const position = this.#position
    if (position !== undefined && (top.epoch !== position.epoch || top.offset > position.offset)) this.markGap()
  }

  /** Delivers a publication that was read from the stream after `since`. */
  replay (publication: Publication): void {
    this.#deliverNext(publication)
  }

  /** Delivers the last part of what was read, then what was buffered, and goes live. */
  finishReplay (read: History, generation: number): void {
    if (this.#buffered === undefined) return // it went on without this repair, and what was missing is reported
    const top = Math.min(read.offset, this.#firstBuffered(read) - 1)
    this.#position ??= { offset: top, epoch: read.epoch }
    for (const publication of read.publications) this.#deliverNext(publication)
    // What the stream no longer holds is lost, except what came over Pub/Sub.
    if (this.#position.epoch === read.epoch) this.#reportGap(top)
    if (generation === this.#generation) this.#flushBuffered()
  }

  /**
   * Continues after another position, because Redis has lost its data or the last part of it. What was published
   * before and has not arrived cannot be known.
   */
  resetTo ({ offset, epoch }: Position): void {
    const old = this.#position?.epoch
    if (old !== epoch) {
      const buffered = this.#buffered
      this.#buffered = buffered?.filter(publication => publication.epoch !== old)
      for (const publication of buffered ?? []) if (publication.epoch === old) this.#deliverNext(publication)
    }
    this.listener.positionLost()
    this.listener.missed(1, 'Redis has lost the history of this channel')
    this.#position = { offset, epoch }
  }

  /**
   * Reports what Pub/Sub lost of an instance's publications. An instance starts again at 1 if it has not published
   * here for long.
   */
  #sequenceJumped (instance: string, last: number | undefined, sequence: number): void {
    if (last === undefined && this.#sequences.size >= MAX_INSTANCES) this.#sequences.clear()
    if (last === undefined || sequence > last || sequence === 1) this.#sequences.set(instance, sequence)
    if (last !== undefined && sequence > last) {
      this.listener.missed(sequence - last - 1, 'Redis Pub/Sub lost them and this channel has no history')
    }
  }

  #receivePositioned (publication: Publication): void {
    if (this.#buffered !== undefined) {
      this.#buffered.push(publication)
      if (this.#buffered.length > MAX_BUFFERED) this.#stopWaiting()
    } else if (this.#follows(publication)) {
      this.#deliver(publication)
    } else if (publication.epoch === this.#position?.epoch && publication.offset > this.#position.offset) {
      this.#buffered = [publication]
    }
    if (this.#buffered !== undefined) this.#owner.gapFound(this)
  }

  /**
   * Drops what a long repair has delivered meanwhile. A repair that makes no progress is given up: the feed goes live
   * without it.
   */
  #stopWaiting (): void {
    this.#buffered = this.#buffered?.filter(({ offset, epoch }) => epoch !== this.#position?.epoch || offset > this.#position.offset) ?? []
    if (this.#buffered.length > MAX_BUFFERED) this.#flushBuffered()
  }

  #firstBuffered ({ epoch }: Position): number {
    return this.#buffered?.find(publication => publication.epoch === epoch)?.offset ?? Infinity
  }

  #flushBuffered (): void {
    const buffered = this.#buffered ?? []
    this.#buffered = undefined
    for (const publication of buffered) this.#deliverNext(publication)
  }

  /** Delivers a publication unless it is a duplicate, and reports what is missing before it. */
  #deliverNext (publication: Publication): void {
    if (publication.epoch === this.#position?.epoch) {
      if (publication.offset <= this.#position.offset) return
      this.#reportGap(publication.offset - 1)
    }
    this.#deliver(publication)
  }

  /** Moves on to `offset` and reports the publications up to it as lost. */
  #reportGap (offset: number): void {
    const position = this.#position
    if (position === undefined || offset <= position.offset) return
    this.listener.positionLost()
    this.listener.missed(offset - position.offset, 'the history of this channel no longer holds them')
    position.offset = offset
  }

  /** Over an unbroken connection a new epoch loses nothing: the position was evicted or had expired. */
  #follows ({ epoch, offset }: Publication): boolean {
    return this.#position === undefined || epoch !== this.#position.epoch || offset === this.#position.offset + 1
  }

  #deliver (publication: Publication): void {
    const { offset, epoch } = publication
    if (this.#position !== undefined && this.#position.epoch !== epoch) this.listener.positionLost()
    this.#position = { offset, epoch }
    this.verifiedAt = Date.now()
    this.listener.deliver(publication)
  }
}
