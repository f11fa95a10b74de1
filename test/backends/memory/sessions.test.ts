import { mock } from 'node:test'
import t from 'tap'
import { MemorySessions } from '../../../lib/backends/memory/sessions.ts'
import { range } from '../broker-contract.ts'
import { testSessions } from '../sessions-contract.ts'

testSessions(t, async () => new MemorySessions())

t.test('thousands of sessions come and go, and those that live are kept', async (t) => {
  mock.timers.enable({ apis: ['Date'], now: 1_700_000_000_000 })
  t.teardown(() => mock.timers.reset())
  const sessions = new MemorySessions()
  await sessions.set('lasting', new Map([['a', '1']]), 3_600_000)
  for (const round of range(1, 5)) {
    for (const i of range(1, 1_000)) await sessions.set(`user ${round} ${i}`, new Map([['i', String(i)]]), 1_000)
    t.strictSame(await sessions.get(`user ${round} 1`), new Map([['i', '1']]))
    mock.timers.tick(1_000)
    t.strictSame(await sessions.get(`user ${round} 1`), new Map())
  }
  t.strictSame(await sessions.get('lasting'), new Map([['a', '1']]))
})
