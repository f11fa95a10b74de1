import t from 'tap'
import { NoSubscriber } from '../../../lib/backends/redis/no-subscriber.ts'

t.test('a process that listens to nothing is always ready, and refuses to subscribe', async (t) => {
  const subscriber = new NoSubscriber()
  subscriber.open()
  t.strictSame([subscriber.ready, subscriber.isReady(), subscriber.reason], [true, true, ''])
  await t.rejects(subscriber.subscribe(), /listens to no channel/)
  subscriber.unsubscribe()
  subscriber.giveUp()
  t.ok(subscriber.ready)
  await subscriber.close()
})
