import type { History } from './broker.ts'
import type { Position, Publication } from './publication.ts'

/** What a subscriber that names its position gets before it goes live. */
export interface Recovery extends Position {
  /** True only if nothing is missing between `since` and what comes live. */
  recovered: boolean
  publications: Publication[]
}

/**
 * Joins what was read from the history with what was published meanwhile, in order and without doubles.
 * All or nothing: with a hole between them, or with another epoch, nothing is recovered.
 */
export function catchUp (since: Position, history: History, live: Publication[]): Recovery {
  const top = live.at(-1) ?? history
  const lost: Recovery = { recovered: false, publications: [], offset: top.offset, epoch: top.epoch }
  if (since.epoch !== '' && since.epoch !== history.epoch) return lost
  const publications: Publication[] = []
  let last = since.offset
  for (const publication of [...history.publications, ...live]) {
    if (publication.epoch !== history.epoch) return lost
    if (publication.offset <= last) continue
    if (publication.offset !== last + 1) return lost
    publications.push(publication)
    last = publication.offset
  }
  return last === Math.max(top.offset, history.offset) ? { recovered: true, publications, offset: last, epoch: history.epoch } : lost
}
