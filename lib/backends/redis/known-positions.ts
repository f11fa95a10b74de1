import type { Position } from '../../model/publication.ts'

/** Channels that are remembered. */
const MAX_CHANNELS = 10_000
/** Epochs of a channel that are remembered after their end. */
const MAX_ENDED = 4
/** Milliseconds for which a publish takes the entry at the known position for the one that it knows. */
const CONFIRMED = 100

/** A position, and the publication there. */
export interface KnownPosition extends Position {
  /** Instance and time of the publication; '' and Infinity where it is not known. */
  readonly instance: string
  readonly time: number
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

interface Seen extends Mutable<KnownPosition> {
  /** Epochs that have ended. One of them comes back if Redis gets an older snapshot. */
  ended: readonly string[]
  /** Unix time in milliseconds at which Redis was last asked for the publication. */
  confirmedAt: number
}

/**
 * The highest position of each channel that this instance has seen, in its newest epoch. It goes with every script, so
 * that Redis finds out when it has gone back in time: `EPOCH` in scripts.ts.
 */
export class KnownPositions {
  /** Position of the last publication that was delivered here. */
  readonly #delivered: (channel: string) => KnownPosition | undefined
  readonly #seen = new Map<string, Seen>()

  constructor (delivered: (channel: string) => KnownPosition | undefined) {
    this.#delivered = delivered
  }

  /** A publication of this channel was stored or delivered. Returns true if it ended an epoch that was known. */
  see (channel: string, { offset, epoch, instance, time }: KnownPosition): boolean {
    const seen = this.#seen.get(channel)
    if (seen === undefined) {
      const [oldest] = this.#seen.size < MAX_CHANNELS ? [] : this.#seen.keys()
      if (oldest !== undefined) this.#seen.delete(oldest)
      this.#seen.set(channel, { offset, epoch, instance, time, ended: [], confirmedAt: 0 })
    } else if (epoch !== seen.epoch) {
      if (seen.ended.includes(epoch)) return false
      Object.assign(seen, { offset, epoch, instance, time, ended: [...seen.ended, seen.epoch].slice(-MAX_ENDED) })
      return true
    } else if (offset > seen.offset || (offset === seen.offset && instance !== '')) {
      Object.assign(seen, { offset, instance, time })
    }
    return false
  }

  /** A publication was stored some time ago, perhaps in an epoch that has ended. */
  seeEarlier (channel: string, position: KnownPosition): void {
    if (this.#seen.get(channel)?.epoch === position.epoch) this.see(channel, position)
  }

  /**
   * Returns the script arguments: epoch, offset, start of the entry there, and epochs that have ended. '' and 0 stand
   * for what is not known. `quick`: without the entry if it was asked for a moment ago.
   */
  argumentsOf (channel: string, quick = false): [epoch: string, offset: string, entry: string, ended: string] {
    const delivered = this.#delivered(channel)
    if (delivered !== undefined) this.see(channel, delivered)
    const seen = this.#seen.get(channel)
    if (seen === undefined) return ['', '0', '', '']
    const { epoch, offset, instance, time, ended, confirmedAt } = seen
    const now = Date.now()
    const confirmed = instance === '' || (quick && now - confirmedAt < CONFIRMED)
    if (!confirmed) seen.confirmedAt = now
    return [epoch, String(offset), confirmed ? '' : `${time} ${instance} `, ended.join(' ')]
  }
}
