import type { ChannelListener, History } from '../../model/broker.ts'
import type { Position, Publication } from '../../model/publication.ts'

/** Publications that may wait for a repair; more of them mean that it does not come in time. */
const MAX_WAITING = 1_000
/** Instances whose sequence is remembered per channel. */
const MAX_INSTANCES = 1_000

/**
 * The publications of one channel on their way from Redis to this instance, put in order. Pub/Sub loses messages whenever
 * a link breaks; what is missing is read from the stream before anything newer is delivered.
 */
export class RedisFeed {
  readonly channel: string
  readonly #hasHistory: boolean
  readonly listener: ChannelListener
  /** Of the last publication delivered; undefined until the first read. */
  #position: Position | undefined
  /** Set while something may be missing: what arrives meanwhile. */
  #waiting: Publication[] | undefined
  /** When its position was last known to be right: Unix time in ms. */
  checkedAt = Date.now()
  /** How often the link broke: a repair that began before the last break does not mend it. */
  #generation = 0
  /** In a channel without history: the last sequence of each publishing instance. */
  readonly #sequences = new Map<string, number>()

  constructor (channel: string, hasHistory: boolean, listener: ChannelListener) {
    this.channel = channel
    this.#hasHistory = hasHistory
    this.listener = listener
    if (hasHistory) this.#waiting = []
  }

  /** Whether it must be repaired before it delivers again. */
  get broken (): boolean { return this.#waiting !== undefined }

  /** Where a repair starts reading: everything after the last publication delivered, or the position alone if there was none. */
  get since (): Position | undefined { return this.#position }

  get generation (): number { return this.#generation }

  receive (publication: Publication): void {
    if (publication.offset === 0) return this.#receiveUnnumbered(publication)
    if (this.#waiting !== undefined) {
      this.#waiting.push(publication)
      if (this.#waiting.length > MAX_WAITING) this.#waitingTooLong()
    } else if (this.#follows(publication)) {
      this.#deliver(publication)
    } else if (publication.epoch === this.#position?.epoch && publication.offset > this.#position.offset) {
      this.#waiting = [publication]
    }
  }

  /** The link broke: something may be missing from now on. Without history only the next sequence can tell. */
  lost (): void {
    if (!this.#hasHistory) return
    this.#generation++
    this.#waiting ??= []
  }

  /** Compares with the top of the stream: a message that got lost without a trace is found by the next one, or by this. */
  check (top: Position): void {
    this.checkedAt = Date.now()
    const position = this.#position
    if (position !== undefined && (top.epoch !== position.epoch || top.offset > position.offset)) this.lost()
  }

  /** Delivers one of those that were read from the stream after `since`. */
  catchUp (publication: Publication): void {
    this.#advance(publication)
  }

  /** Takes the last part of what was read, and goes on with what arrived meanwhile. */
  repair (read: History, generation: number): void {
    if (this.#waiting === undefined) return // it came too late, and what it could not bring was reported
    const top = Math.min(read.offset, this.#firstWaiting(read) - 1)
    this.#position ??= { offset: top, epoch: read.epoch }
    for (const publication of read.publications) this.#advance(publication)
    // What the stream has dropped by now is lost, but for what came over Pub/Sub.
    if (this.#position.epoch === read.epoch) this.#skipTo(top)
    if (generation === this.#generation) this.#goOn()
  }

  /**
   * Redis has lost its data, or the last of it, and goes on after `offset`. What was published before that and has
   * not arrived can not be known.
   */
  restart ({ offset, epoch }: Position): void {
    const old = this.#position?.epoch
    if (old !== epoch) {
      const waiting = this.#waiting
      this.#waiting = waiting?.filter(publication => publication.epoch !== old)
      for (const publication of waiting ?? []) if (publication.epoch === old) this.#advance(publication)
    }
    this.listener.positionLost()
    this.listener.missed(1, 'Redis has lost the history of this channel')
    this.#position = { offset, epoch }
  }

  /** A repair that takes long has delivered some of them; one that does not get on is done without. */
  #waitingTooLong (): void {
    this.#waiting = this.#waiting?.filter(({ offset, epoch }) => epoch !== this.#position?.epoch || offset > this.#position.offset) ?? []
    if (this.#waiting.length > MAX_WAITING) this.#goOn()
  }

  #firstWaiting ({ epoch }: Position): number {
    return this.#waiting?.find(publication => publication.epoch === epoch)?.offset ?? Infinity
  }

  #goOn (): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const publication of waiting) this.#advance(publication)
  }

  /** Delivers what is new, and reports what is missing before it. */
  #advance (publication: Publication): void {
    if (publication.epoch === this.#position?.epoch) {
      if (publication.offset <= this.#position.offset) return
      this.#skipTo(publication.offset - 1)
    }
    this.#deliver(publication)
  }

  #skipTo (offset: number): void {
    const position = this.#position
    if (position === undefined || offset <= position.offset) return
    this.listener.positionLost()
    this.listener.missed(offset - position.offset, 'the history of this channel no longer holds them')
    position.offset = offset
  }

  /** Over an unbroken link a new epoch loses nothing: the position was evicted or had expired. */
  #follows ({ epoch, offset }: Publication): boolean {
    return this.#position === undefined || epoch !== this.#position.epoch || offset === this.#position.offset + 1
  }

  #deliver (publication: Publication): void {
    const { offset, epoch } = publication
    if (this.#position !== undefined && this.#position.epoch !== epoch) this.listener.positionLost()
    this.#position = { offset, epoch }
    this.checkedAt = Date.now()
    this.listener.deliver(publication)
  }

  #receiveUnnumbered (publication: Publication): void {
    const { instance, sequence } = publication
    if (sequence === 0) return this.listener.deliver(publication)
    const last = this.#sequences.get(instance)
    if (last !== undefined && sequence > last + 1) this.listener.missed(sequence - last - 1, 'Redis Pub/Sub lost them and this channel has no history')
    if (last === undefined && this.#sequences.size >= MAX_INSTANCES) this.#sequences.clear()
    // An instance starts again at 1 when it has not published here for long.
    if (last === undefined || sequence > last || sequence === 1) this.#sequences.set(instance, sequence)
    this.listener.deliver(publication)
  }
}
