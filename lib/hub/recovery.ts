import type { History } from '../model/broker.ts'
import type { Position, Publication } from '../model/publication.ts'
import { joinStreams, wholeStreams } from '../model/stream-part.ts'

/** Result of a subscribe: missed publications, live ones, and the position to continue from. */
export interface Recovery extends Position {
  /** True only if nothing is missing between the position the subscriber named and what arrives live. */
  recovered: boolean
  /** Publications after the named position. `offset` is then that position. Empty if not recovered. */
  missed: Publication[]
  /** Publications after `offset` that arrived while the history was read. */
  live: Publication[]
}

/**
 * Merges history with publications that arrived while it was read, in offset order, without duplicates. All or nothing:
 * with a gap, or with another epoch, nothing is recovered and the subscriber starts at the top. Returns undefined if
 * even the live publications have a gap.
 */
export function recover (since: Position | undefined, history: History, live: Publication[]): Recovery | undefined {
  const { epoch } = history
  const fresh = live.filter(publication => publication.offset > history.offset || publication.epoch !== epoch)
  if (!follows(fresh, history.offset, epoch)) return undefined
  const top: Recovery = { recovered: false, missed: [], live: fresh, offset: history.offset, epoch }
  if (since === undefined || (since.epoch !== '' && since.epoch !== epoch)) return top
  const missed = history.publications.filter(({ offset }) => offset > since.offset)
  const complete = follows(missed, since.offset, epoch) && (missed.at(-1)?.offset ?? since.offset) === history.offset
  return complete ? { recovered: true, missed: [...missed, ...fresh], live: [], offset: since.offset, epoch } : top
}

/**
 * Gives a subscriber of a channel with streams each stream in one publication: with the parts that it has missed, or,
 * if it does not recover, with the whole text so far. The last one has the offset up to which the subscriber knows all
 * of the history, so that it continues from there.
 */
export function withStreams (recovery: Recovery, history: History): Recovery {
  if (recovery.recovered) return { ...recovery, missed: joinStreams(recovery.missed) }
  const live = wholeStreams(history.publications, recovery.live)
  const last = live.at(-1)
  if (last !== undefined && last.offset < recovery.offset) live[live.length - 1] = { ...last, offset: recovery.offset }
  return { ...recovery, live }
}

/** Offset after which publications arrive live. */
export function topOf ({ missed, live, offset }: Recovery): number {
  return missed.at(-1)?.offset ?? live.at(-1)?.offset ?? offset
}

function follows (publications: Publication[], offset: number, epoch: string): boolean {
  return publications.every((publication, i) => publication.offset === offset + i + 1 && publication.epoch === epoch)
}
