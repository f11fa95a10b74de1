import type { Subscription } from 'centrifuge'
import type { Entry, Numbered } from './checker.ts'

/** Writes down what a subscription sees from now on. `dec`: decodes the data as the SDK returns it. */
export function logOf (subscription: Subscription, acknowledged: readonly unknown[], dec = (data: unknown) => data): Entry[] {
  const log: Entry[] = []
  subscription.on('subscribed', ({ recovered, streamPosition }) => {
    const { offset = 0, epoch = '' } = streamPosition ?? {}
    log.push({ kind: 'subscribed', recovered, offset, epoch, acked: acknowledged.length })
  })
  subscription.on('publication', ({ data, offset = 0 }) => log.push({ kind: 'publication', ...dec(data) as Numbered, offset }))
  return log
}
