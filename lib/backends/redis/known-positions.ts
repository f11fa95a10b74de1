import type { Position } from '../../model/publication.ts'

/** Channels whose acknowledged position is kept. */
const MAX_CHANNELS = 10_000

/**
 * The highest position of each channel that this instance has seen. It goes with each command, so that Redis finds out
 * when it has gone back in time.
 */
export class KnownPositions {
  /** Position of the last publication that was delivered here. */
  readonly #delivered: (channel: string) => Position | undefined
  readonly #acknowledged = new Map<string, Position>()

  constructor (delivered: (channel: string) => Position | undefined) {
    this.#delivered = delivered
  }

  of (channel: string): Position | undefined {
    const delivered = this.#delivered(channel)
    const acknowledged = this.#acknowledged.get(channel)
    if (delivered === undefined || acknowledged === undefined) return delivered ?? acknowledged
    return acknowledged.epoch === delivered.epoch && acknowledged.offset > delivered.offset ? acknowledged : delivered
  }

  /** Redis has acknowledged a publication at this position. */
  acknowledge (channel: string, offset: number, epoch: string): void {
    const known = this.#acknowledged.get(channel)
    if (known?.epoch === epoch) {
      known.offset = Math.max(known.offset, offset)
      return
    }
    const [oldest] = this.#acknowledged.size < MAX_CHANNELS ? [] : this.#acknowledged.keys()
    if (oldest !== undefined) this.#acknowledged.delete(oldest)
    this.#acknowledged.set(channel, { offset, epoch })
  }
}
