import t from 'tap'
import { startNode } from '../broker-contract.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { testSessions } from '../sessions-contract.ts'

const redis = await startRedis(t)

testSessions(t, async (t) => (await startNode(t, redis.url, randomPrefix())).backend.sessions)

t.test('a session is the same on every instance, and what they set at once is all kept', async (t) => {
  const prefix = randomPrefix()
  const [a, b] = [(await startNode(t, redis.url, prefix)).backend.sessions, (await startNode(t, redis.url, prefix)).backend.sessions]
  await Promise.all([a.set('ada', new Map([['a', '1']]), 60_000), b.set('ada', new Map([['b', '2']]), 60_000)])
  for (const sessions of [a, b]) t.strictSame(new Map([...await sessions.get('ada')].toSorted()), new Map([['a', '1'], ['b', '2']]))
  await a.delete('ada')
  t.strictSame(await b.get('ada'), new Map())
})
