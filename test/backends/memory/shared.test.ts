import t from 'tap'
import type { Test } from 'tap'
import { sharedMemory } from '../../../lib/backends/memory/shared.ts'
import { encodePayload, newPublication } from '../../../lib/model/publication.ts'
import type { Presence } from '../../../lib/model/presence.ts'
import { history, startNode, testBroker } from '../broker-contract.ts'
import { testPresence } from '../presence-contract.ts'
import { testSessions } from '../sessions-contract.ts'

async function startPair (t: Test, memory = sharedMemory()) {
  return [await startNode(t, memory, 'ws'), await startNode(t, memory, 'ws')] as const
}

testBroker(t, async t => [...await startPair(t)])

testPresence(t, async (t): Promise<Presence> => {
  const [{ backend: { presence: a } }, { backend: { presence: b } }] = await startPair(t)
  return { add: a.add.bind(a), remove: a.remove.bind(a), list: b.list.bind(b), stats: b.stats.bind(b) }
})

testSessions(t, async t => {
  const [{ backend: { sessions: a } }, { backend: { sessions: b } }] = await startPair(t)
  return { get: b.get.bind(b), set: a.set.bind(a), delete: a.delete.bind(a) }
})

t.test('each instance gets what it is subscribed to, and nothing after its end', async (t) => {
  const [a, b] = await startPair(t)
  await a.subscribe('room', true)
  await b.subscribe('room', true)
  await a.subscribe('other', false)
  await a.publish('room', 1, { history })
  b.broker.unsubscribe('room')
  b.broker.unsubscribe('room')
  await b.publish('room', 2, { history })
  await b.publish('other', 3)
  await a.broker.close()
  await b.publish('room', 4, { history })
  t.strictSame([a.data('room'), a.data('other'), b.data('room')], [[1, 2], [3], [1]])
})

t.test('what was kept outlives the instances, as in Redis', async (t) => {
  const memory = sharedMemory()
  const [a, b] = await startPair(t, memory)
  const first = await a.publish('room', 1, { history })
  await a.broker.close()
  await b.broker.close()
  const c = await startNode(t, memory, 'ws')
  t.strictSame(await c.publish('room', 2, { history }), { offset: 2, epoch: first.epoch })
  const elsewhere = await startNode(t, sharedMemory(), 'ws')
  t.equal((await elsewhere.broker.history('room', { limit: 1 })).offset, 0, 'another memory knows nothing of it')
})

t.test('what a listener publishes while it is told arrives after it, at all instances', async (t) => {
  const [a, b] = await startPair(t)
  const seen: Record<'a' | 'b', number[]> = { a: [], b: [] }
  const listen = (name: 'a' | 'b', deliver: (offset: number) => void) => ({
    deliver: ({ offset }: { offset: number }) => { seen[name].push(offset); deliver(offset) },
    canAccept: () => true,
    missed: () => {},
    positionLost: () => {}
  })
  const again: Array<Promise<unknown>> = []
  await a.broker.subscribe('room', true, listen('a', offset => {
    if (offset < 3) again.push(a.broker.publish('room', newPublication(a.id, encodePayload('again')), { history }))
  }))
  await b.broker.subscribe('room', true, listen('b', () => {}))
  await a.publish('room', 'first', { history })
  await Promise.all(again)
  t.strictSame(seen, { a: [1, 2, 3], b: [1, 2, 3] })
})

t.test('a listener that throws takes nothing from the others, and gets what is published later', async (t) => {
  const [a, b] = await startPair(t)
  const seen: number[] = []
  await a.broker.subscribe('room', true, {
    deliver: ({ offset }) => {
      seen.push(offset)
      if (offset === 1) throw new Error('a bug')
    },
    canAccept: () => true,
    missed: () => {},
    positionLost: () => {}
  })
  await b.subscribe('room', true)
  await t.rejects(a.publish('room', 1, { history }), { message: 'a bug' })
  await a.publish('room', 2, { history })
  t.strictSame([seen, b.data('room')], [[1, 2], [1, 2]])
})
