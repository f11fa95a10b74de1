import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { isPromise, TaskQueue } from '../../lib/util/task-queue.ts'
import { range } from '../backends/broker-contract.ts'

t.test('a synchronous task runs at once', async (t) => {
  const queue = new TaskQueue()
  const ran: number[] = []
  for (const i of range(1, 3)) queue.push(() => { ran.push(i) })
  t.strictSame(ran, [1, 2, 3])
})

t.test('tasks wait for the promise of the one before', async (t) => {
  const queue = new TaskQueue()
  const ran: string[] = []
  let release = () => {}
  queue.push(() => {
    ran.push('first begins')
    return new Promise<void>((resolve) => { release = resolve }).then(() => { ran.push('first ends') })
  })
  queue.push(() => { ran.push('second') })
  queue.push(async () => {
    ran.push('third begins')
    await setImmediate()
    ran.push('third ends')
  })
  const done = new Promise<void>((resolve) => queue.push(resolve))
  await setImmediate()
  t.strictSame(ran, ['first begins'])
  release()
  await done
  t.strictSame(ran, ['first begins', 'first ends', 'second', 'third begins', 'third ends'])
})

t.test('when the last promise has settled, the next task runs at once again', async (t) => {
  const queue = new TaskQueue()
  const first = Promise.resolve()
  queue.push(() => first)
  await first
  await setImmediate()
  let ran = false
  queue.push(() => { ran = true })
  t.equal(ran, true)
})

t.test('a task that is pushed by a task runs after it and after those that wait', async (t) => {
  const queue = new TaskQueue()
  const ran: string[] = []
  queue.push(() => {
    queue.push(() => {
      queue.push(() => { ran.push('innermost') })
      ran.push('inner')
    })
    queue.push(() => { ran.push('second') })
    ran.push('outer')
  })
  t.strictSame(ran, ['outer', 'inner', 'second', 'innermost'])
})

t.test('ten thousand tasks need no stack', async (t) => {
  const queue = new TaskQueue()
  let count = 0
  queue.push(async () => {})
  for (let i = 0; i < 10_000; i++) queue.push(() => { count++ })
  await new Promise<void>((resolve) => queue.push(resolve))
  t.equal(count, 10_000)
})

t.test('a promise is what has then', async (t) => {
  for (const value of [Promise.resolve(), { then () {} }]) t.equal(isPromise(value), true)
  for (const value of [undefined, null, 0, 'then', {}, { then: true }, () => {}]) t.equal(isPromise(value), false)
})
