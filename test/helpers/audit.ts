import type { Position } from '../../index.ts'
import type { SdkSubscription } from './sdk.ts'
import { until } from './until.ts'

/** The publications of one channel with history: ids by offset, as the publishes were acknowledged. */
export class Ledger {
  readonly ids = new Map<number, number>()
  #next = 0

  /** Publishes the next id. `publish` must not repeat a publish that may have taken effect. */
  async publish (publish: (id: number) => Promise<Partial<Position>>): Promise<void> {
    const id = this.#next++
    const { offset } = await publish(id)
    this.ids.set(offset!, id)
  }

  get top (): number { return this.ids.size }
}

export interface Audit {
  lost: number
  twice: number
  disordered: number
  /** Publications that differ from the one published at their offset. */
  wrong: number
  /** Replies with `recovered: true` after which a publication was missing. */
  lies: number
  recovered: number
  unrecovered: number
}

/** Waits until every subscriber has the last publication, then compares what each received with the ledger. */
export async function audit (subscriptions: SdkSubscription[], ledger: Ledger): Promise<Audit> {
  const { top } = ledger
  const isBehind = ({ events, offsets }: SdkSubscription) => {
    return (offsets.at(-1) ?? 0) < top && (events.subscribed.at(-1)?.streamPosition?.offset ?? 0) < top
  }
  // At the timeout the audit goes on, and counts what is missing.
  await until(() => !subscriptions.some(isBehind), `all subscribers at ${top}`, 60_000).catch(() => {})
  const result: Audit = { lost: 0, twice: 0, disordered: 0, wrong: 0, lies: 0, recovered: 0, unrecovered: 0 }
  for (const subscription of subscriptions) auditOne(subscription, ledger, result)
  return result
}

function auditOne (subscription: SdkSubscription, { ids, top }: Ledger, result: Audit): void {
  const seen = new Set<number>()
  let position: number | undefined
  let promised = false
  const gap = (count: number) => {
    result.lost += count
    if (count > 0 && promised) result.lies++
    promised = false
  }
  for (const event of subscription.log) {
    if ('wasRecovering' in event) {
      const offset = event.streamPosition?.offset ?? 0
      if (position === undefined) position = offset
      else if (!event.recovered) gap(offset - position)
      position = Math.max(position, event.recovered ? 0 : offset)
      promised = event.recovered
      if (event.wasRecovering) result[event.recovered ? 'recovered' : 'unrecovered']++
      continue
    }
    const offset = event.offset ?? 0
    if (ids.get(offset) !== subscription.dec(event)) result.wrong++
    if (seen.has(offset)) result.twice++
    else if (offset <= position!) result.disordered++
    else gap(offset - position! - 1)
    seen.add(offset)
    position = Math.max(position!, offset)
  }
  gap(top - (position ?? 0))
}
