import type { Subscriber } from './subscriber.ts'
import type { Subscription } from './subscription.ts'

interface Subscribed {
  readonly subscriptions: ReadonlySet<Subscription>
}

/** Subscribers with subscriptions in more than one of these channels. */
export function inSeveral (channels: Iterable<Subscribed>, flush: number): ReadonlySet<Subscriber> {
  const several = new Set<Subscriber>()
  for (const { subscriptions } of channels) {
    for (const { subscriber } of subscriptions) {
      if (subscriber.flushedBy === flush) several.add(subscriber)
      else subscriber.flushedBy = flush
    }
  }
  return several
}
