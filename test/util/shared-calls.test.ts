import t from 'tap'
import { SharedCalls } from '../../lib/util/shared-calls.ts'

/** Calls that the test ends by hand, in the order in which they began. */
function slowCalls () {
  const shared = new SharedCalls()
  const begun: string[] = []
  const ends: Array<() => void> = []
  const ask = (key: string, question: string) => shared.take(key, question, () => new Promise<string>(resolve => {
    begun.push(`${key} ${question}`)
    ends.push(() => resolve(`${question} ${begun.length}`))
  }))
  const turn = () => new Promise(resolve => setImmediate(resolve))
  const end = async () => {
    ends.shift()?.()
    await turn()
  }
  return { shared, begun, ask, end, turn }
}

t.test('those that ask the same before a call begins share it', async (t) => {
  const { begun, ask, end, turn } = slowCalls()
  const answers = Promise.all([ask('room', 'who'), ask('room', 'who'), ask('room', 'who')])
  await turn()
  await end()
  t.strictSame(await answers, ['who 1', 'who 1', 'who 1'])
  t.strictSame(begun, ['room who'])
})

t.test('one call per key runs at a time, and a question that comes while it runs is asked again', async (t) => {
  const { begun, ask, end, turn } = slowCalls()
  const first = ask('room', 'who')
  await turn()
  const later = [ask('room', 'who'), ask('room', 'what'), ask('room', 'who')]
  const other = ask('hall', 'who')
  await turn()
  t.strictSame(begun, ['room who', 'hall who'])
  for (let i = 0; i < 4; i++) await end()
  t.equal(await first, 'who 2')
  t.equal(await other, 'who 3')
  t.strictSame(begun, ['room who', 'hall who', 'room who', 'room what'])
  t.equal(await later[0], await later[2])
})

t.test('a call that fails fails for all that share it, and for nobody else', async (t) => {
  const shared = new SharedCalls()
  const failing = () => shared.take('room', 'who', () => Promise.reject(new Error('Redis is down')))
  const results = await Promise.allSettled([failing(), failing(), shared.take('room', 'what', async () => 'fine')])
  t.match(results, [{ reason: { message: 'Redis is down' } }, { reason: { message: 'Redis is down' } }, { value: 'fine' }])
})
