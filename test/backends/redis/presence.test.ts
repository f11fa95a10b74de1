import { createClient } from 'redis'
import t from 'tap'
import { PRESENCE_TTL } from '../../../lib/model/presence.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import { startNode } from '../broker-contract.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { testPresence } from '../presence-contract.ts'

const redis = await startRedis(t)
const direct = createClient({ url: redis.url })
await direct.connect()
t.teardown(() => direct.destroy())

testPresence(t, async (t) => (await startNode(t, redis.url, randomPrefix())).backend.presence)

t.test('instances see each other\'s members', async (t) => {
  const prefix = randomPrefix()
  const [a, b] = [(await startNode(t, redis.url, prefix)).backend.presence, (await startNode(t, redis.url, prefix)).backend.presence]
  await a.add('room', [{ client: '1', user: 'ada' }])
  await b.add('room', [{ client: '2', user: 'ada' }])
  t.strictSame(await a.stats('room'), { clients: 2, users: 1 })
  await a.remove('room', '1')
  t.strictSame(await b.list('room'), [{ client: '2', user: 'ada' }])
})

t.test('who leaves while many are added is not added again', async (t) => {
  const { presence } = (await startNode(t, redis.url, randomPrefix())).backend
  const members = Array.from({ length: 1_200 }, (_, i) => ({ client: String(i), user: 'ada' }))
  await Promise.all([presence.add('room', members), presence.remove('room', '1199')])
  t.strictSame(await presence.stats('room'), { clients: 1_199, users: 1 })
})

t.test('a member whose time is over is not seen, and both keys expire with the last one', async (t) => {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const { presence } = (await startNode(t, redis.url, prefix)).backend
  await presence.add('room', [{ client: '1', user: 'ada' }, { client: '2', user: 'bob' }])

  const until = await direct.zScore(keys.membersUntil('room'), '1')
  t.ok(until! > Date.now() && until! <= Date.now() + PRESENCE_TTL, 'by the clock of Redis')
  for (const key of [keys.members('room'), keys.membersUntil('room')]) {
    const ttl = await direct.pTTL(key)
    t.ok(ttl > 0 && ttl <= PRESENCE_TTL, key)
  }
  // As if the last refresh was a minute ago.
  await direct.zAdd(keys.membersUntil('room'), { value: '1', score: until! - PRESENCE_TTL })
  t.strictSame(await presence.list('room'), [{ client: '2', user: 'bob' }])
  t.strictSame(await presence.stats('room'), { clients: 1, users: 1 })
  t.equal(await direct.hExists(keys.members('room'), '1'), 0)
})
