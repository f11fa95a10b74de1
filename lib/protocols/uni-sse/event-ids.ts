import { stampOf } from './encoder.ts'
import type { Stamp } from './encoder.ts'
import { idLine } from './ids.ts'

/** The positions of one connection, as the client will know them when it has what was written so far. */
export class EventIds {
  readonly #segments = new Map<string, string>()

  /** Sets the position in a channel; undefined: there is none any more. */
  set (channel: string, segment: string | undefined): void {
    if (segment === undefined) this.#segments.delete(channel)
    else this.#segments.set(channel, segment)
  }

  /** The line with the id of these positions. A connection that never had a position needs none. */
  get line (): string { return this.#segments.size === 0 ? '' : idLine(this.#segments.values()) }

  /**
   * Takes the position of an event that is written now. Returns its stamp if the client needs another id than the one
   * that the event brings, because it has other channels with history.
   */
  advance (payload: Buffer): Stamp | undefined {
    const stamp = stampOf(payload)
    if (stamp === undefined) return undefined
    const { channel, segment } = stamp
    this.set(channel, segment)
    return this.#segments.size === (segment === undefined ? 0 : 1) ? undefined : stamp
  }
}
