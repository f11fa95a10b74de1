import t from 'tap'
import type { Connection } from '../../lib/core/connection.ts'
import { PublishLimits } from '../../lib/core/publish-limits.ts'

const limit = { max: 1, timeWindow: 1_000 }
/** All that counts of a connection. */
const connection = (id: string, user = ''): Connection => ({ id, user }) as Connection

t.test('a user and a connection of the same name are two', async (t) => {
  const limits = new PublishLimits()
  t.ok(limits.take(connection('1', 'ann'), 'a', limit, 0))
  t.notOk(limits.take(connection('2', 'ann'), 'a', limit, 0))
  t.ok(limits.take(connection('2', 'ann'), 'b', limit, 0))
  t.ok(limits.take(connection('ann'), 'a', limit, 0))
  t.notOk(limits.take(connection('ann'), 'a', limit, 999))
  t.ok(limits.take(connection('ann'), 'a', limit, 1_000))
})

t.test('memory is bounded: what is as good as new is forgotten first, then the oldest', async (t) => {
  const limits = new PublishLimits()
  const ann = connection('1', 'ann')
  for (let i = 0; i < 49_999; i++) limits.take(ann, `idle:${i}`, limit, 0)
  limits.take(ann, 'busy', limit, 900)
  t.equal(limits.size, 50_000)
  limits.take(ann, 'next', limit, 1_000)
  t.equal(limits.size, 2)
  t.notOk(limits.take(ann, 'busy', limit, 1_000), 'what counts is kept')
  for (let i = 0; i < 49_998; i++) limits.take(ann, `busy:${i}`, limit, 1_001)
  limits.take(ann, 'last', limit, 1_001)
  t.equal(limits.size, 45_001)
  t.notOk(limits.take(ann, 'busy:49997', limit, 1_001), 'the newest are kept')
})
