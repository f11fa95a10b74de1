import type { Publication } from '../model/publication.ts'
import type { Pending } from './pending.ts'
import type { Subscription } from './subscription.ts'

/**
 * Who is in step, in a channel that sends a publication as the difference to the one before: only a client that has
 * that one can read it. All that are in step get the same bytes. Who is not gets the next publication in full.
 */
export class Steps {
  /** Subscriptions that patch and are not in step. */
  readonly behind = new Set<Subscription>()
  /** The last publication that was delivered, or that all who are in step have. */
  last: Publication | undefined

  /** The client has received this one last, by another way than the batches of the channel. */
  follow (subscription: Subscription, received: Publication | undefined, pending: Pending | undefined): void {
    this.last ??= received // nobody is in step yet
    const before = pending === undefined ? this.last : beforeNext(subscription, pending)
    // By their bytes: streams are joined, so that the same offset may stand for another text.
    this.sent(subscription, received !== undefined && before?.kind === received.kind && before.payload.equals(received.payload))
  }

  /** The subscription was sent a batch. `inStep`: the last publication was in it. */
  sent (subscription: Subscription, inStep: boolean): void {
    if (inStep) this.behind.delete(subscription)
    else if (subscription.encoder.patches && subscription.state === 'live') this.behind.add(subscription)
  }
}

/** The publication before the next one that the subscription is sent. */
function beforeNext ({ sentOf, sentCount }: Subscription, pending: Pending): Publication | undefined {
  return sentOf === pending ? pending.publications[sentCount - 1] : pending.before
}

/**
 * Gives these subscriptions their own batch in this flush, without a check for each of all the others.
 * @param ids Only those of these subscribers.
 */
export function setApart (subscriptions: Iterable<Subscription>, pending: Pending, ids?: ReadonlySet<string>): void {
  for (const subscription of subscriptions) {
    if (subscription.sentOf === pending || ids?.has(subscription.subscriber.id) === false) continue
    subscription.sentOf = pending
    subscription.sentCount = 0
  }
}
