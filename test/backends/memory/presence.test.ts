import { mock } from 'node:test'
import t from 'tap'
import { MemoryPresence } from '../../../lib/backends/memory/presence.ts'
import { PRESENCE_TTL } from '../../../lib/model/presence.ts'
import { testPresence } from '../presence-contract.ts'

testPresence(t, async () => new MemoryPresence())

t.test('a member that is not refreshed expires, one that is stays', async (t) => {
  mock.timers.enable({ apis: ['Date'], now: 1_700_000_000_000 })
  t.teardown(() => mock.timers.reset())
  const presence = new MemoryPresence()
  await presence.add('room', [{ client: '1', user: 'ada' }, { client: '2', user: 'bob' }])
  mock.timers.tick(PRESENCE_TTL - 1)
  t.strictSame(await presence.stats('room'), { clients: 2, users: 2 })
  await presence.add('room', [{ client: '2', user: 'bob' }])
  mock.timers.tick(1)
  t.strictSame(await presence.list('room'), [{ client: '2', user: 'bob' }])
  t.strictSame(await presence.stats('room'), { clients: 1, users: 1 })
  mock.timers.tick(PRESENCE_TTL)
  t.strictSame(await presence.list('room'), [])
})
