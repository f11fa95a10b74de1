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
  /** It is subscribed, and continues after this position. `recovered`: it was told that it missed nothing. */
  | Position & { readonly kind: 'subscribed', readonly recovered: boolean }

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
 * Compares what was acknowledged with what each client of the channel saw. Its log must begin with `subscribed` and
 * end after everything that was acknowledged could arrive.
 */
export function check (acknowledged: readonly Acknowledged[], logs: Iterable<readonly Entry[]>): Counts {
  const counts: Counts = { acked: acknowledged.length, delivered: 0, lost: 0, told: 0, twice: 0, disordered: 0, falselyRecovered: 0 }
  const expected: Expected = { byPublisher: new Map(), epochs: new Map() }
  for (const one of acknowledged.toSorted((a, b) => a.number - b.number)) {
    const earlier = expected.byPublisher.get(one.publisher)
    if (earlier === undefined) expected.byPublisher.set(one.publisher, [one])
    else earlier.push(one)
  }
  for (const { epoch } of acknowledged) if (!expected.epochs.has(epoch)) expected.epochs.set(epoch, expected.epochs.size)
  for (const log of logs) checkLog(expected, log, counts)
  return counts
}

interface Expected {
  /** In the order in which each publisher sent them. */
  readonly byPublisher: Map<string, Acknowledged[]>
  /** When the first publication of an epoch was acknowledged: 0 for the first epoch. */
  readonly epochs: Map<string, number>
}

function checkLog ({ byPublisher, epochs }: Expected, log: readonly Entry[], counts: Counts): void {
  /** By publisher and number, where in the log it is. */
  const seenAt = new Map<string, number>()
  const last = new Map<string, number>()
  let offset = 0
  log.forEach((entry, i) => {
    if (entry.kind === 'subscribed') {
      if (!entry.recovered) offset = entry.offset
      return
    }
    const key = `${entry.publisher} ${entry.number}`
    if (seenAt.has(key)) return counts.twice++
    seenAt.set(key, i)
    const isBehind = entry.number < (last.get(entry.publisher) ?? 0) || (entry.offset !== 0 && entry.offset <= offset)
    if (isBehind) counts.disordered++
    last.set(entry.publisher, Math.max(entry.number, last.get(entry.publisher) ?? 0))
    offset = entry.offset
  })
  const falselyRecovered = new Set<number>()
  for (const [publisher, published] of byPublisher) {
    let before = -1
    let missing: Acknowledged[] = []
    for (const one of published) {
      const at = seenAt.get(`${publisher} ${one.number}`)
      if (at === undefined) {
        missing.push(one)
        continue
      }
      counts.delivered++
      judge(log.slice(before + 1, at), before + 1, epochs, missing, counts, falselyRecovered)
      missing = []
      before = at
    }
    judge(log.slice(before + 1), before + 1, epochs, missing, counts, falselyRecovered)
  }
  counts.falselyRecovered += falselyRecovered.size
}

/** Judges publications that are missing in a part of a log, which begins at this index of the log. */
function judge (
  part: readonly Entry[], index: number, epochs: ReadonlyMap<string, number>, missing: readonly Acknowledged[],
  counts: Counts, falselyRecovered: Set<number>
): void {
  for (const { offset, epoch } of missing) {
    const skips = (entry: Entry) => entry.kind === 'subscribed' && !entry.recovered &&
      (entry.epoch === epoch ? entry.offset >= offset : (epochs.get(entry.epoch) ?? Infinity) > epochs.get(epoch)!)
    const told = part.findIndex(skips)
    if (told + index === 0) continue // published before the client came
    if (told !== -1) {
      counts.told++
      continue
    }
    counts.lost++
    const promise = part.findLastIndex(entry => entry.kind === 'subscribed' && entry.recovered)
    if (promise !== -1) falselyRecovered.add(promise + index)
  }
}

/** Adds up what several channels, or several runs, gave. */
export function sum (all: readonly Counts[]): Counts {
  const total = check([], [])
  for (const counts of all) for (const name of Object.keys(total) as Array<keyof Counts>) total[name] += counts[name]
  return total
}
