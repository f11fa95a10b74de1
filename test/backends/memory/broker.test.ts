import { mock } from 'node:test'
import t from 'tap'
import { IDEMPOTENCY_TTL, POSITION_TTL } from '../../../lib/model/broker.ts'
import { decodePayload } from '../../../lib/model/publication.ts'
import { history, startNode, testBroker } from '../broker-contract.ts'

testBroker(t, async (t) => {
  const node = await startNode(t, false, 'ws')
  return [node, node]
})

t.test('it is up from the first to the last moment', async (t) => {
  const node = await startNode(t, false, 'ws')
  t.equal(node.broker.up, true)
  t.strictSame(node.states, [])
})

t.test('an idempotency key is forgotten after five minutes, and a position after seven days', async (t) => {
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: 1_700_000_000_000 })
  t.teardown(() => mock.timers.reset())
  const node = await startNode(t, false, 'ws')

  const first = await node.publish('room', 1, { history, idempotencyKey: 'key' })
  mock.timers.tick(IDEMPOTENCY_TTL - 1)
  t.strictSame(await node.publish('room', 2, { history, idempotencyKey: 'key' }), first)
  mock.timers.tick(1)
  const second = await node.publish('room', 3, { history, idempotencyKey: 'key' })
  t.strictSame(second, { offset: 2, epoch: first.epoch })

  const read = async () => (await node.broker.history('room', { limit: 10 }))
  t.strictSame((await read()).publications.map(decodePayload), [3], 'the history had expired by then')
  mock.timers.tick(POSITION_TTL - 1)
  t.strictSame(await read(), { publications: [], offset: 2, epoch: first.epoch })
  mock.timers.tick(POSITION_TTL)
  const later = await read()
  t.equal(later.offset, 0)
  t.not(later.epoch, first.epoch)
})
