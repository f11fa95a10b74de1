import type { Test } from 'tap'
import type { Member, Presence } from '../../lib/model/presence.ts'
import { range } from './broker-contract.ts'

/** What every presence must do; `start` gives a new one that nobody is in. */
export function testPresence (t: Test, start: (t: Test) => Promise<Presence>): void {
  const ada: Member = { client: '1', user: 'ada', info: { name: 'Ada\nŽ', tags: [1, null] } }
  const adaAgain: Member = { client: '2', user: 'ada' }
  const nobody: Member = { client: '3', user: '' }
  const sorted = (members: Member[]) => members.toSorted((a, b) => a.client < b.client ? -1 : 1)

  t.test('members are listed as they were added, each channel on its own', async (t) => {
    const presence = await start(t)
    t.strictSame(await presence.list('room'), [])
    t.strictSame(await presence.stats('room'), { clients: 0, users: 0 })
    await presence.add('room', [ada, adaAgain])
    await presence.add('room', [nobody])
    await presence.add('other', [nobody])
    t.strictSame(sorted(await presence.list('room')), [ada, adaAgain, nobody])
    t.strictSame(await presence.stats('room'), { clients: 3, users: 2 })
    t.strictSame(await presence.list('other'), [nobody])
  })

  t.test('a user stays until the last of its connections is removed', async (t) => {
    const presence = await start(t)
    await presence.add('room', [ada, adaAgain])
    await presence.remove('room', '1')
    t.strictSame(await presence.list('room'), [adaAgain])
    t.strictSame(await presence.stats('room'), { clients: 1, users: 1 })
    await presence.remove('room', '2')
    t.strictSame(await presence.list('room'), [])
    await presence.remove('room', '2')
    await presence.remove('nowhere', '2')
    t.strictSame(await presence.list('room'), [])
  })

  t.test('adding a member again replaces it', async (t) => {
    const presence = await start(t)
    await presence.add('room', [ada])
    await presence.add('room', [{ ...ada, info: 'new' }])
    t.strictSame(await presence.list('room'), [{ ...ada, info: 'new' }])
    await presence.add('room', [])
    t.strictSame(await presence.stats('room'), { clients: 1, users: 1 })
  })

  t.test('more than a thousand can be added at once', async (t) => {
    const presence = await start(t)
    const members = range(1, 1_234).map(i => ({ client: String(i).padStart(4, '0'), user: `user ${i % 100}` }))
    await presence.add('room', members)
    t.strictSame(sorted(await presence.list('room')), members)
    t.strictSame(await presence.stats('room'), { clients: 1_234, users: 100 })
  })
}
