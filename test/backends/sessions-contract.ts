import type { Test } from 'tap'
import type { SessionStore } from '../../lib/model/sessions.ts'
import { until } from '../helpers/until.ts'

/** What every session store must do; `start` gives an empty one. */
export function testSessions (t: Test, start: (t: Test) => Promise<SessionStore>): void {
  const hour = 3_600_000

  t.test('a session has the fields that were set, until they are removed', async (t) => {
    const sessions = await start(t)
    t.strictSame(await sessions.get('ada'), new Map())
    await sessions.set('ada', new Map([['a', '1'], ['ž {}', '"\\n"'], ['__proto__', '{}'], ['10', '10'], ['', 'null']]), hour)
    t.strictSame(await sessions.get('ada'), new Map([['a', '1'], ['ž {}', '"\\n"'], ['__proto__', '{}'], ['10', '10'], ['', 'null']]))
    await sessions.set('ada', new Map([['a', undefined], ['10', '11'], ['not there', undefined]]), hour)
    t.strictSame(await sessions.get('ada'), new Map([['ž {}', '"\\n"'], ['__proto__', '{}'], ['10', '11'], ['', 'null']]))
    await sessions.set('ada', new Map([['ž {}', undefined], ['__proto__', undefined], ['10', undefined], ['', undefined]]), hour)
    t.strictSame(await sessions.get('ada'), new Map())
  })

  t.test('every user has one of its own', async (t) => {
    const sessions = await start(t)
    const users = ['ada', 'Ada', '', '{ada}', '%', 'ada:1', '__proto__']
    for (const user of users) await sessions.set(user, new Map([['user', JSON.stringify(user)]]), hour)
    for (const user of users) t.strictSame(await sessions.get(user), new Map([['user', JSON.stringify(user)]]))
    await sessions.delete('ada')
    t.strictSame(await sessions.get('ada'), new Map())
    t.strictSame(await sessions.get('Ada'), new Map([['user', '"Ada"']]))
    await sessions.delete('ada')
  })

  t.test('a session expires some time after it was last set', async (t) => {
    const sessions = await start(t)
    await sessions.set('ada', new Map([['a', '1']]), 50)
    await sessions.set('bob', new Map([['a', '1']]), 50)
    await sessions.set('bob', new Map([['b', '2']]), hour)
    await until(async () => (await sessions.get('ada')).size === 0, 'the session is gone')
    await sessions.set('ada', new Map([['b', '2']]), hour)
    t.strictSame(await sessions.get('ada'), new Map([['b', '2']]), 'and nothing of it comes back')
    t.strictSame(await sessions.get('bob'), new Map([['a', '1'], ['b', '2']]))
  })
}
