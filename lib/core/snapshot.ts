import type { Recovery } from '../hub/recovery.ts'
import { SnapshotGapError } from '../model/errors.ts'
import type { Position } from '../model/publication.ts'

/**
 * What was published after a snapshot leaves as ordinary pushes behind the reply: every SDK delivers those, and moves
 * its position by them. Publications in the reply are for clients that asked to recover.
 */
export function afterSnapshot (recovery: Recovery): Recovery {
  return { ...recovery, recovered: false, missed: [], live: [...recovery.missed, ...recovery.live] }
}

/** The error for the log if what was published after a snapshot is not all there. `top`: position of the channel. */
export function snapshotGap (channel: string, since: Position, top: Position): Error {
  return new SnapshotGapError(channel, reasonOf(since, top))
}

function reasonOf (since: Position, top: Position): string {
  if (since.epoch !== '' && since.epoch !== top.epoch) return 'the epoch has changed'
  const missed = top.offset - since.offset
  if (missed < 0) return `since is ${-missed} publications ahead of the channel`
  return `there are ${missed} publications, which is more than the history keeps, or more bytes than half of maxBufferedBytes. ` +
    'Make the history of the namespace larger, or onSubscribe faster'
}
