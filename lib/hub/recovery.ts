import type { History } from '../model/broker.ts'
import type { Position, Publication } from '../model/publication.ts'
import { joinStreams, wholeStreams } from '../model/stream-part.ts'

/** Result of a subscribe: missed publications, live ones, and the position to continue from. */
export interface Recovery extends Position {
  /** True only if nothing is missing between the position the subscriber named and what arrives live. */
  recovered: boolean
  /** Publications after the named position. `offset` is then that position. Empty if not recovered. */
  missed: Publication[]
  /** What follows them: all from the first publication on that is in no history, or that arrived after the read. */
  live: Publication[]
  /** Set if publications were left out: the offset after which they arrive live all the same. */
  top?: number
}

/**
 * Merges history with publications that arrived while it was read, in the order of the broker, without duplicates. All
 * or nothing: with a gap, or with another epoch, nothing is recovered and the subscriber starts at the top. Returns
 * undefined if even the live publications have a gap.
 */
export function recover (since: Position | undefined, history: History, arrived: Publication[]): Recovery | undefined {
  const { epoch } = history
  const fresh = newerThan(history, arrived)
  if (!follows(fresh, history.offset, epoch)) return undefined
  const top: Recovery = { recovered: false, missed: [], live: withUnkept(fresh, arrived, epoch), offset: history.offset, epoch }
  if (since === undefined || (since.epoch !== '' && since.epoch !== epoch)) return top
  const missed = history.publications.filter(({ offset }) => offset > since.offset)
  const complete = follows(missed, since.offset, epoch) && (missed.at(-1)?.offset ?? since.offset) === history.offset
  return complete ? { recovered: true, ...parted(withUnkept([...missed, ...fresh], arrived, epoch)), offset: since.offset, epoch } : top
}

/**
 * Gives a subscriber of a channel with streams each stream in one publication: with the parts that it has missed, or,
 * if it does not recover, with the whole text so far. The last one has the offset up to which the subscriber knows all
 * of the history, so that it continues from there.
 */
export function withStreams (recovery: Recovery, history: History): Recovery {
  if (recovery.recovered) return { ...recovery, missed: joinStreams(recovery.missed), top: topOf(recovery) }
  const live = wholeStreams(history.publications, recovery.live)
  const index = live.findLastIndex(isKept)
  const last = live[index]
  if (last !== undefined && last.offset < recovery.offset) live[index] = { ...last, offset: recovery.offset }
  return { ...recovery, live, top: topOf(recovery) }
}

/**
 * The same where only the newest publication counts: it is all that is recovered, from whichever position, and is left
 * out if the subscriber has it. `offset` is the position before it.
 */
export function recoverNewest (
  since: Position | undefined, history: History, arrived: Publication[], filter: (publication: Publication) => boolean = () => true
): Recovery | undefined {
  const { epoch } = history
  const fresh = newerThan(history, arrived)
  if (!follows(fresh, history.offset, epoch)) return undefined
  const newest = fresh.findLast(filter) ?? history.publications.at(-1)
  const offset = fresh.at(-1)?.offset ?? history.offset
  const none: Recovery = { recovered: false, missed: [], live: withUnkept([], arrived, epoch), offset, epoch }
  const sameEpoch = since !== undefined && (since.epoch === epoch || (since.epoch === '' && offset > 0))
  if (sameEpoch && since.offset <= offset && since.offset >= (newest?.offset ?? offset)) return { ...none, recovered: true }
  if (newest === undefined) return none
  const recovery: Recovery = { recovered: true, ...parted(withUnkept([newest], arrived, epoch)), offset: newest.offset - 1, epoch }
  return newest.offset < offset ? { ...recovery, top: offset } : recovery
}

/**
 * Gives a subscriber what has arrived although there is a gap before it, or a new epoch. The broker has counted what is
 * lost there.
 */
export function acrossGap (since: Position | undefined, history: History, arrived: Publication[]): Recovery {
  const missed = recover(since, history, [])?.missed ?? []
  const fresh = new Set(newerThan(history, arrived))
  const live = [...missed, ...arrived.filter(publication => !isKept(publication) || fresh.has(publication))]
  const { offset, epoch } = live.findLast(isKept) ?? history
  return { recovered: false, missed: [], live, offset, epoch }
}

/**
 * Of a history only the newest publication counts: leaves that one, or that which is the newest for the subscriber.
 * None if the newest of all is not there, or is left from another epoch.
 */
export function newestOf (history: History, filter: (publication: Publication) => boolean = () => true): History {
  const { publications, offset } = history
  const newest = publications.at(-1)?.offset === offset ? publications.findLast(filter) : undefined
  return { ...history, publications: newest === undefined ? [] : [newest] }
}

/**
 * Returns the recovery without publications that are not for the subscriber. A subscriber who has missed nothing else
 * moves past them: otherwise they would soon be more than the history keeps, and it could not recover.
 */
export function onlyThose (recovery: Recovery, areFor: (publication: Publication) => boolean): Recovery {
  const { missed, live, recovered, offset } = recovery
  if (missed.every(areFor) && live.every(areFor)) return recovery
  const top = topOf(recovery)
  const own = missed.filter(areFor)
  return { ...recovery, missed: own, live: live.filter(areFor), offset: recovered && own.length === 0 ? top : offset, top }
}

/** Offset after which publications arrive live. */
export function topOf ({ missed, live, offset, top }: Recovery): number {
  return top ?? live.findLast(isKept)?.offset ?? missed.at(-1)?.offset ?? offset
}

/** False for what was published with `history: false`: it has no offset. */
function isKept ({ offset }: Publication): boolean {
  return offset > 0
}

/** Those that have arrived and are not in the history. What came before its epoch began is not part of it. */
function newerThan ({ offset: top, epoch: present }: History, arrived: Publication[]): Publication[] {
  const kept = arrived.filter(isKept)
  const hasBegun = kept.at(-1)?.epoch === present
  return kept.filter(({ offset, epoch }) => epoch === present ? offset > top : !hasBegun)
}

/**
 * Puts what has arrived and is in no history between the others, where the broker had it: behind the publication that
 * arrived before it. If none arrived before it, it precedes the first one that did; if none arrived at all, it is last.
 */
function withUnkept (kept: Publication[], arrived: Publication[], epoch: string): Publication[] {
  const first = arrived.find(publication => isKept(publication) && publication.epoch === epoch)
  const merged: Publication[] = []
  let rest = 0
  let offset = (first?.offset ?? Infinity) - 1
  for (const publication of arrived) {
    if (isKept(publication)) {
      if (publication.epoch === epoch) offset = publication.offset
      continue
    }
    while (rest < kept.length && kept[rest]!.offset <= offset) merged.push(kept[rest++]!)
    merged.push(publication)
  }
  return [...merged, ...kept.slice(rest)]
}

/** A reply holds only what has an offset. So from the first one without on, all follows the reply. */
function parted (publications: Publication[]): Pick<Recovery, 'missed' | 'live'> {
  const unkept = publications.findIndex(publication => !isKept(publication))
  const end = unkept === -1 ? publications.length : unkept
  return { missed: publications.slice(0, end), live: publications.slice(end) }
}

function follows (publications: Publication[], offset: number, epoch: string): boolean {
  return publications.every((publication, i) => publication.offset === offset + i + 1 && publication.epoch === epoch)
}
