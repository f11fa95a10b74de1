import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Churned } from '../fixtures/churn.ts'

t.setTimeout(240_000)

/** Bytes by which two measurements of the heap may differ, as V8 keeps some. 7,000 leaked connections are far above. */
const TOLERANCE = 4_000_000

t.test('ten thousand connections of every kind leave nothing behind', { timeout: 220_000 }, async (t) => {
  const child = fork(fileURLToPath(new URL('../fixtures/churn.ts', import.meta.url)), { execArgv: [...process.execArgv, '--expose-gc'] })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  const [churned] = await Promise.race([once(child, 'message'), exited.then(() => { throw new Error('it ended early') })]) as [Churned]
  t.comment(JSON.stringify(churned))

  t.equal(churned.opened, 8_008, 'two of ten kinds are refused')
  t.equal(Object.values(churned.ended).reduce((sum, count) => sum + count), churned.opened, 'each has ended once')
  t.strictSame(Object.keys(churned.ended).sort(), ['abnormal', 'client', 'error', 'policy', 'server'])
  t.equal(churned.connections, 0)
  t.equal(churned.channels, 0)
  t.equal(churned.active, 0)
  t.equal(churned.subscriptions, 0)
  t.strictSame(churned.resources[1], churned.resources[0], 'no handle and no timer is left')
  t.strictSame(churned.listeners[1], churned.listeners[0], 'no listener is left')
  t.ok(churned.heap[1]! - churned.heap[0]! < TOLERANCE, `the heap is flat: ${churned.heap.join(' then ')} bytes`)
  t.strictSame(await exited, [0, null], 'after app.close() the process ends by itself')
})
