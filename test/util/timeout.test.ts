import t from 'tap'
import { settledWithin, withTimeout } from '../../lib/util/timeout.ts'

const never = new Promise<never>(() => {})
const timers = () => process.getActiveResourcesInfo().filter(resource => resource === 'Timeout').length

t.test('a promise that settles in time is waited for, however it settles', async (t) => {
  const before = timers()
  t.equal(await settledWithin(Promise.resolve('x'), 60_000), true)
  t.equal(await settledWithin(Promise.reject(new Error('x')), 60_000), true)
  t.equal(timers(), before, 'no timer is left')
})

t.test('a promise that takes longer is not waited for', async (t) => {
  t.equal(await settledWithin(never, 1), false)
  t.equal(await settledWithin(never, -1), false, 'a budget that is used up is none')
})

t.test('a result or a failure in time is handed on', async (t) => {
  const before = timers()
  t.equal(await withTimeout(Promise.resolve('x'), 60_000, 'nothing came'), 'x')
  await t.rejects(withTimeout(Promise.reject(new TypeError('x')), 60_000, 'nothing came'), new TypeError('x'))
  t.equal(timers(), before, 'no timer is left')
})

t.test('a promise that takes longer is a rejection that says so, and its own failure is nobody else\'s', async (t) => {
  let fail: (error: Error) => void = () => {}
  const late = new Promise<never>((_resolve, reject) => { fail = reject })
  const keepsAlive = setInterval(() => {}, 1_000) // the timer under test does not
  await t.rejects(withTimeout(late, 20, 'nothing came'), { message: 'nothing came within 0.02 s' })
  clearInterval(keepsAlive)
  fail(new Error('too late')) // an unhandled rejection would fail the test
})
