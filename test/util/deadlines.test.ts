import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { Deadlines } from '../../lib/util/deadlines.ts'
import { fakeTime } from '../../lib/testing/fake-time.ts'

t.test('everything is given up at its time, by one timer, and nothing that was settled before', async (t) => {
  using time = fakeTime()
  const deadlines = new Deadlines()
  const expired: string[] = []
  const add = (name: string, ms: number) => {
    const one = { expiresAt: Date.now() + ms, expire: () => { expired.push(name) } }
    deadlines.add(one)
    return one
  }
  add('late', 1_000)
  add('soon', 100)
  const settled = add('settled', 200)
  add('at once', 0)
  await time.move(50)
  t.strictSame(expired, ['at once'])
  await time.move(60)
  t.strictSame(expired, ['at once', 'soon'])
  deadlines.delete(settled)
  await time.move(500)
  t.strictSame(expired, ['at once', 'soon'])
  await time.move(400)
  t.strictSame(expired, ['at once', 'soon', 'late'])
  deadlines.delete(add('gone', 10))
  await time.move(1_000)
  t.strictSame(expired, ['at once', 'soon', 'late'])
  add('again', 10)
  await time.move(20)
  t.strictSame(expired.at(-1), 'again')
})

t.test('a deadline that no timer reaches in one go keeps the process idle', async (t) => {
  const warnings: string[] = []
  const warn = ({ name }: Error) => { warnings.push(name) }
  process.on('warning', warn)
  t.teardown(() => process.off('warning', warn))
  const deadlines = new Deadlines()
  const one = { expiresAt: Date.now() + 30 * 86_400_000, expire: () => t.fail('it is too early') }
  deadlines.add(one)
  await turn()
  deadlines.delete(one)
  t.strictSame(warnings, [], 'Node.js would fire such a timer at once, and again and again')
})
