import type { Position } from '../../lib/model/publication.ts'

/** A publication that a publisher sent. Each publisher counts its own from 1 on, in the order of its calls. */
export interface Numbered {
  readonly publisher: string
  readonly number: number
}

/** A publication whose publish call was answered with success. `offset` 0: the channel has no history. */
export interface Acknowledged extends Numbered, Position {}

/** What a client saw in one channel. A log is all of it, in order. */
export type Entry =
  | Numbered & { readonly kind: 'publication', readonly offset: number }
  /**
   * It is subscribed, and continues after this position. `recovered`: it was told that it missed nothing. `acked`: how
   * many publications were acknowledged at that time.
   */
  | Position & { readonly kind: 'subscribed', readonly recovered: boolean, readonly acked: number }

/** What became of the acknowledged publications. */
export interface Counts {
  acked: number
  delivered: number
  /** Missing at a client that was never told. */
  lost: number
  /** Missing at a client that was told: `recovered` was false. */
  told: number
  twice: number
  disordered: number
  /** `recovered: true`, but something is missing. */
  falselyRecovered: number
}

/** What must be 0, whatever fails. */
export const violations = ['lost', 'twice', 'disordered', 'falselyRecovered'] as const

/** True if a promise was broken. */
export function isViolated (counts: Counts): boolean {
  return violations.some(name => counts[name] > 0)
}

/**
 * Compares what was acknowledged, in the order in which it was, with what each client of the channel saw. Its log must
 * begin with `subscribed` and end after everything that was acknowledged could arrive.
 */
export function check (acknowledged: readonly Acknowledged[], logs: Iterable<readonly Entry[]>): Counts {
  const counts: Counts = { acked: acknowledged.length, delivered: 0, lost: 0, told: 0, twice: 0, disordered: 0, falselyRecovered: 0 }
  const expected: Expected = { byPublisher: new Map(), epochs: new Map() }
  const again = givenAgain(acknowledged)
  acknowledged.forEach((one, order) => {
    const earlier = expected.byPublisher.get(one.publisher)
    const forgotten = again.some(later => later.order > order && later.epoch === one.epoch && later.offset <= one.offset)
    const ordered = { ...one, order, forgotten }
    if (earlier === undefined) expected.byPublisher.set(one.publisher, [ordered])
    else earlier.push(ordered)
    if (!expected.epochs.has(one.epoch)) expected.epochs.set(one.epoch, expected.epochs.size)
  })
  for (const published of expected.byPublisher.values()) published.sort((a, b) => a.number - b.number)
  for (const log of logs) checkLog(expected, log, counts)
  return counts
}

/** `order`: how many were acknowledged before. */
type Ordered = Acknowledged & {
  readonly order: number
  /** Redis has forgotten it without a word: its offset, or one before it, was given again in the same epoch. */
  readonly forgotten: boolean
}

interface Expected {
  /** In the order in which each publisher sent them. */
  readonly byPublisher: Map<string, Ordered[]>
  /** When the first publication of an epoch was acknowledged: 0 for the first epoch. */
  readonly epochs: Map<string, number>
}

function checkLog (expected: Expected, log: readonly Entry[], counts: Counts): void {
  const seenAt = checkOrder(log, counts)
  const falselyRecovered = new Set<number>()
  for (const [publisher, published] of expected.byPublisher) {
    let before = -1
    let missing: Ordered[] = []
    const judge = (at: number) => {
      for (const one of missing) judgeMissing(expected, log, before + 1, at, one, counts, falselyRecovered)
      missing = []
      before = at
    }
    for (const one of published) {
      const at = seenAt.get(`${publisher} ${one.number}`)
      if (at === undefined) {
        missing.push(one)
      } else {
        counts.delivered++
        judge(at)
      }
    }
    judge(log.length)
  }
  counts.falselyRecovered += falselyRecovered.size
}

/** Returns where in the log each publication is. */
function checkOrder (log: readonly Entry[], counts: Counts): Map<string, number> {
  const seenAt = new Map<string, number>()
  const last = new Map<string, number>()
  let offset = 0
  let begunAt = -1
  log.forEach((entry, i) => {
    if (entry.kind === 'subscribed') {
      if (entry.recovered) return
      offset = entry.offset
      begunAt = i // it was told to begin again
      last.clear()
      return
    }
    const { publisher, number } = entry
    const key = `${publisher} ${number}`
    if ((seenAt.get(key) ?? -1) > begunAt) {
      counts.twice++
      return
    }
    seenAt.set(key, i)
    const newest = last.get(publisher) ?? 0
    if (number < newest || (entry.offset !== 0 && entry.offset <= offset)) counts.disordered++
    last.set(publisher, Math.max(number, newest))
    offset = entry.offset
  })
  return seenAt
}

/** Judges a publication that is missing. The client has others of its publisher at `from - 1` and `to`. */
function judgeMissing (
  { epochs }: Expected, log: readonly Entry[], from: number, to: number, { offset, epoch, order, forgotten }: Ordered,
  counts: Counts, falselyRecovered: Set<number>
): void {
  // Of an epoch that had ended, or of one that Redis had forgotten again.
  const isOver = (entry: Position & { acked: number }) => entry.acked > order || (epochs.get(entry.epoch) ?? Infinity) > epochs.get(epoch)!
  const skips = (entry: Entry) => entry.kind === 'subscribed' && !entry.recovered &&
    (entry.epoch === epoch && !forgotten ? entry.offset >= offset : isOver(entry))
  const told = log.slice(from, to).findIndex(skips)
  if (told + from === 0) return // published before the client came
  if (told !== -1) {
    counts.told++
    return
  }
  counts.lost++
  const promise = log.findIndex((entry, i) => i < to && entry.kind === 'subscribed' && entry.recovered && entry.acked > order)
  if (promise !== -1) falselyRecovered.add(promise)
}

/** Adds up what several channels, or several runs, gave. */
export function sum (all: readonly Counts[]): Counts {
  const total = check([], [])
  for (const counts of all) for (const name of Object.keys(total) as Array<keyof Counts>) total[name] += counts[name]
  return total
}

/** Positions that were acknowledged for an earlier publication, too. */
function givenAgain (acknowledged: readonly Acknowledged[]): Array<Position & { order: number }> {
  const seen = new Set<string>()
  const again: Array<Position & { order: number }> = []
  acknowledged.forEach(({ offset, epoch }, order) => {
    const position = `${epoch} ${offset}`
    if (offset !== 0 && seen.has(position)) again.push({ offset, epoch, order })
    seen.add(position)
  })
  return again
}
