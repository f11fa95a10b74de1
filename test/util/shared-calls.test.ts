import t from 'tap'
import { SharedCalls } from '../../lib/util/shared-calls.ts'

/** Calls that the test ends by hand, in the order in which they began. */
function slowCalls () {
  const shared = new SharedCalls()
  const begun: string[] = []
  const ends: Array<() => void> = []
  const ask = (key: string, question: string, wanted = () => true) => {
    return shared.take(key, question, wanted, () => new Promise<string>(resolve => {
      begun.push(`${key} ${question}`)
      ends.push(() => resolve(`${question} ${begun.length}`))
    }))
  }
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
  const failing = () => shared.take('room', 'who', () => true, () => Promise.reject(new Error('Redis is down')))
  const results = await Promise.allSettled([failing(), failing(), shared.take('room', 'what', () => true, async () => 'fine')])
  t.match(results, [{ reason: { message: 'Redis is down' } }, { reason: { message: 'Redis is down' } }, { value: 'fine' }])
})

t.test('a call is not made for those who have gone, and is made if one of them has not', async (t) => {
  const { begun, ask, end, turn } = slowCalls()
  const first = ask('room', 'who')
  await turn()
  let open = true
  const [gone, shared, other] = [ask('room', 'what', () => open), ask('room', 'where', () => open), ask('room', 'where')]
  open = false
  for (let i = 0; i < 2; i++) await end()
  t.strictSame(begun, ['room who', 'room where'])
  t.equal(await first, 'who 1')
  t.equal(await gone, undefined)
  t.equal(await shared, await other)
})

t.test('too many different questions are not asked', async (t) => {
  const { begun, ask, end, turn } = slowCalls()
  const first = ask('room', 'first')
  await turn()
  const answers = Array.from({ length: 20 }, (_, i) => ask('room', String(i)))
  const again = ask('room', '0')
  t.strictSame(await Promise.all(answers.slice(16)), [undefined, undefined, undefined, undefined])
  for (let i = 0; i < 17; i++) await end()
  t.equal(begun.length, 17)
  t.equal(await first, 'first 1')
  t.equal(await again, await answers[0])
})
