import type { History } from '../model/broker.ts'
import { catchUp, topOf } from './catch-up.ts'
import type { CaughtUp } from './catch-up.ts'
import type { Channel } from './channel.ts'
import type { Connection } from '../core/connection.ts'
import type { Hub } from './hub.ts'
import type { Position, Publication } from '../model/publication.ts'

/** Bytes around a publication's data in a reply: names, offset. */
const FRAMING = 32

/** A connection on its way into a channel. What is published meanwhile waits, so that nothing is missed and nothing comes before the answer. */
export class Joining {
  readonly #hub: Hub
  readonly #connection: Connection
  readonly #channel: Channel
  readonly since: Position | undefined
  #live: Publication[] = []
  #history: History | undefined

  constructor (hub: Hub, connection: Connection, channel: Channel, since: Position | undefined) {
    this.#hub = hub
    this.#connection = connection
    this.#channel = channel
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
  admit (onlyRecovered = false): CaughtUp | undefined {
    const live = this.#live
    this.#live = []
    const caughtUp = this.#history && catchUp(this.since, this.#history, live.filter(({ offset }) => offset !== 0))
    if (onlyRecovered && caughtUp?.recovered === false) return caughtUp
    this.#channel.admit(this, this.#connection, caughtUp && { offset: topOf(caughtUp), epoch: caughtUp.epoch })
    if (this.#history === undefined) return { recovered: false, missed: [], live, offset: 0, epoch: '' }
    caughtUp?.live.push(...live.filter(({ offset }) => offset === 0))
    return caughtUp
  }

  abort (): void {
    this.#hub.abort(this, this.#channel)
  }
}

/** Bytes that a publication takes in a reply, about. */
function sizeOf ({ payload, tags, publisher }: Publication): number {
  const extra = tags === undefined && publisher === undefined ? 0 : JSON.stringify({ tags, publisher }).length
  return payload.length + extra + FRAMING
}
