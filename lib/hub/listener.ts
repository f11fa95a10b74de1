import { setTimeout as wait } from 'node:timers/promises'
import type { History } from '../model/broker.ts'
import { UnrecoverablePositionError } from '../model/errors.ts'
import type { Position, Publication } from '../model/publication.ts'

/** Publications that wait for a handler at most. */
const MAX_WAITING = 1_000
/** Publications per read of the history. */
const READ_LIMIT = 100
/** Milliseconds before a read that failed is tried again: Redis is down. */
const RETRY = 1_000

const GONE = 'its history no longer has everything after it. Listen without since, and read again what you keep'
const NOT_KEPT = 'the handler of a listener is too slow, and history does not hold what it missed'

/** Reads the first publications after a position; with `limit` 0 only the position of the channel. */
export type ReadAfter = (since: Position | undefined, limit: number) => Promise<History>

/** What a listener needs of whoever set it up. */
export interface ListenerOwner {
  /** Hands one publication to the app. MUST NOT reject. */
  handle (publication: Publication): Promise<void>
  /** `count` publications are lost for this listener. */
  missed (count: number, reason: string): void
}

/**
 * One handler of the app in one channel. It takes one publication at a time, in order. What arrives meanwhile waits in
 * memory, up to a bound.
 *
 * In a channel with history it is **behind** at first, and whenever more arrives than may wait. What arrives then is
 * not kept: it is read from the history, in pieces, when the handler has taken what waits. The listener is live again
 * as soon as it has read as far as the newest publication that has arrived. A new epoch ends the old history, so what
 * was not read of it is lost.
 */
export class HubListener {
  readonly channel: string
  readonly #owner: ListenerOwner
  /** Bytes of the payloads that may wait. */
  readonly #maxBytes: number
  /** undefined without history. Set by the hub. */
  readonly #read: ReadAfter | undefined
  readonly #waiting: Publication[] = []
  #bytes = 0
  #behind: boolean
  #working = false
  #stopped = false
  /** The call of the handler that is under way. */
  #handling: Promise<void> | undefined
  /** Position of the last publication that waits or was handed over; undefined before the start. */
  #position: Position | undefined
  /** Newest position that has arrived or was read. */
  #newest: Position | undefined
  /** Where the epoch of the newest arrival began, for this listener. */
  #began: Position | undefined

  constructor (channel: string, owner: ListenerOwner, maxBytes: number, read: ReadAfter | undefined) {
    this.channel = channel
    this.#owner = owner
    this.#maxBytes = maxBytes
    this.#read = read
    this.#behind = read !== undefined
  }

  /**
   * Begins after `since`, or with what is published from now on. The channel has to deliver to the listener already.
   * @throws FST_CRWS_UNRECOVERABLE_POSITION if the history no longer has everything after `since`
   */
  async start (since: Position | undefined): Promise<void> {
    if (this.#read === undefined) return
    const read = await this.#read(since, since === undefined ? 0 : READ_LIMIT)
    const { epoch, publications, offset } = read
    const next = publications[0]?.offset ?? offset + 1
    if (since !== undefined && next !== since.offset + 1) throw new UnrecoverablePositionError(this.channel, GONE)
    const position = { offset: since?.offset ?? offset, epoch }
    // The epoch that was read has ended meanwhile.
    const ended = this.#began !== undefined && this.#began.epoch !== epoch
    if (ended && since !== undefined) throw new UnrecoverablePositionError(this.channel)
    this.#position = ended ? this.#began : position
    if (!ended) this.#take(read, position)
    this.#goLiveIfUpToDate()
    this.#work()
  }

  /** Takes a publication of the channel, in the order of the channel. */
  push (publication: Publication): void {
    if (this.#stopped) return
    const { offset, epoch } = publication
    if (this.#read === undefined || offset === 0) { // offset 0: published with `history: false`
      if (this.#read !== undefined && this.#position === undefined) return // it has not begun
      if (this.#behind || this.#isFull(publication)) this.#owner.missed(1, NOT_KEPT)
      else this.#add(publication)
      return
    }
    if (this.#newest?.epoch !== epoch) this.#begin({ offset: offset - 1, epoch })
    this.#newest = { offset, epoch }
    if (this.#behind || offset <= this.#position!.offset) return // it is read later, or was read
    if (this.#isFull(publication)) this.#behind = true
    else this.#add(publication)
  }

  /** False while as much waits as may. What comes then is read again, so a repair waits only once. */
  canAccept (): boolean {
    return this.#behind || (this.#waiting.length < MAX_WAITING && this.#bytes < this.#maxBytes)
  }

  /** Takes nothing more. Resolves when the handler that is running has ended. */
  async stop (): Promise<void> {
    this.#stopped = true
    this.#waiting.length = this.#bytes = 0
    await this.#handling
  }

  #isFull ({ payload }: Publication): boolean {
    const { length } = this.#waiting
    return length >= MAX_WAITING || (length > 0 && this.#bytes + payload.length > this.#maxBytes)
  }

  #add (publication: Publication): void {
    const { payload, offset, epoch } = publication
    this.#waiting.push(publication)
    this.#bytes += payload.length
    if (offset !== 0) this.#position = { offset, epoch }
    this.#work()
  }

  #begin (began: Position): void {
    this.#began = began
    const position = this.#position
    if (position === undefined || position.epoch === began.epoch) return
    if (this.#behind) this.#lostUpTo(this.#newest?.offset ?? 0, position)
    this.#position = began
  }

  async #work (): Promise<void> {
    if (this.#working) return
    this.#working = true
    await undefined // the channel goes on first: a handler may publish to it
    while (!this.#stopped) {
      const publication = this.#waiting.shift()
      if (publication !== undefined) {
        this.#bytes -= publication.payload.length
        await (this.#handling = this.#owner.handle(publication))
      } else if (this.#behind) {
        await this.#catchUp(this.#read!, this.#position!)
      } else {
        break
      }
    }
    this.#working = false
  }

  /** Reads the next piece of the history. */
  async #catchUp (read: ReadAfter, position: Position): Promise<void> {
    try {
      const history = await read(position, READ_LIMIT)
      // Else a new epoch has begun meanwhile, and its history is read next.
      if (this.#position === position && !this.#stopped) this.#take(history, position)
    } catch (error) {
      if (!(error instanceof UnrecoverablePositionError)) return wait(RETRY, undefined, { ref: false })
      if (this.#position === position) this.#loseRest(position)
    }
    this.#goLiveIfUpToDate()
  }

  #take ({ publications, offset, epoch }: History, { offset: since }: Position): void {
    let last = since
    for (const publication of publications) {
      this.#lostUpTo(publication.offset - 1, { offset: last, epoch })
      this.#add(publication)
      last = publication.offset
    }
    if (publications.length === 0 && offset > since) {
      this.#lostUpTo(offset, { offset: since, epoch })
      this.#position = { offset, epoch }
    }
    if (this.#newest === undefined || (this.#newest.epoch === epoch && this.#newest.offset < offset)) this.#newest = { offset, epoch }
  }

  /** The epoch has ended, and nothing of the next one has arrived yet. */
  #loseRest (position: Position): void {
    const newest = this.#newest ?? position
    this.#lostUpTo(newest.offset, position)
    this.#position = newest
  }

  #lostUpTo (offset: number, after: Position): void {
    if (offset > after.offset) this.#owner.missed(offset - after.offset, NOT_KEPT)
  }

  #goLiveIfUpToDate (): void {
    if (this.#newest === undefined || this.#newest.offset <= this.#position!.offset) this.#behind = false
  }
}
