import type { History } from '../model/broker.ts'
import type { Position, Publication } from '../model/publication.ts'

/** With what a subscriber begins. */
export interface CaughtUp extends Position {
  /** True only if nothing is missing between the position it named and what comes live. */
  recovered: boolean
  /** What it missed, `offset` included; it is then where it named. Empty if not recovered. */
  missed: Publication[]
  /** What was published after `offset` meanwhile. */
  live: Publication[]
}

/**
 * Joins what was read from the history with what was published meanwhile, in order and without doubles. All or nothing: with a
 * hole, or with another epoch, nothing is recovered and the subscriber begins at the top. undefined: even that has a hole.
 */
export function catchUp (since: Position | undefined, history: History, live: Publication[]): CaughtUp | undefined {
  const { epoch } = history
  const fresh = live.filter(publication => publication.offset > history.offset || publication.epoch !== epoch)
  if (!follows(fresh, history.offset, epoch)) return undefined
  const top: CaughtUp = { recovered: false, missed: [], live: fresh, offset: history.offset, epoch }
  if (since === undefined || (since.epoch !== '' && since.epoch !== epoch)) return top
  const missed = history.publications.filter(({ offset }) => offset > since.offset)
  const complete = follows(missed, since.offset, epoch) && (missed.at(-1)?.offset ?? since.offset) === history.offset
  return complete ? { recovered: true, missed: [...missed, ...fresh], live: [], offset: since.offset, epoch } : top
}

/** From here on publications come live. */
export function topOf ({ missed, live, offset }: CaughtUp): number {
  return missed.at(-1)?.offset ?? live.at(-1)?.offset ?? offset
}

function follows (publications: Publication[], offset: number, epoch: string): boolean {
  return publications.every((publication, i) => publication.offset === offset + i + 1 && publication.epoch === epoch)
}
