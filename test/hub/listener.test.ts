import t from 'tap'
import type { Test } from 'tap'
import { MemoryBroker } from '../../lib/backends/memory/broker.ts'
import { Listeners } from '../../lib/core/listeners.ts'
import { Hub } from '../../lib/hub/hub.ts'
import { HubListener } from '../../lib/hub/listener.ts'
import type { History } from '../../lib/model/broker.ts'
import { ChannelNamespaces } from '../../lib/model/channel-rules.ts'
import { UnrecoverablePositionError } from '../../lib/model/errors.ts'
import { newPublication } from '../../lib/model/publication.ts'
import type { Publication } from '../../lib/model/publication.ts'

// Moments that no test can bring about with a real Redis: a read and a publication that pass each other.

function publication (offset: number, epoch: string): Publication {
  return { ...newPublication('me', { kind: 'text', payload: Buffer.from(`${epoch}${offset}`) }), offset, epoch }
}

/** Lets everything run that waits for a promise. */
const turn = () => new Promise(resolve => setImmediate(resolve))

/** A listener whose reads of the history the test answers. */
function setUp (_t: Test) {
  const seen: string[] = []
  const missed: number[] = []
  const reads: Array<{ since: unknown, answer: (history: Partial<History>) => void, fail: (error: Error) => void }> = []
  let hold: Promise<void> | undefined
  const owner = {
    async handle ({ payload }: Publication) {
      seen.push(String(payload))
      await hold
    },
    missed: (count: number) => { missed.push(count) }
  }
  const listener = new HubListener('room', owner, 1_000_000, since => new Promise((resolve, reject) => {
    reads.push({ since, answer: history => resolve({ publications: [], offset: 0, epoch: 'a', ...history }), fail: reject })
  }))
  /** Fills it up, so that it is behind. */
  const fill = async () => {
    let letGo: () => void = () => {}
    hold = new Promise(resolve => { letGo = resolve })
    for (let n = 1; n <= 1_010; n++) listener.push(publication(n, 'a'))
    await turn()
    return () => {
      hold = undefined
      letGo()
    }
  }
  const start = async () => {
    const started = listener.start(undefined)
    reads.shift()!.answer({})
    await started
  }
  return { listener, seen, missed, reads, fill, start }
}

t.test('the epoch ends while the position is read: the listener begins in the new one', async (t) => {
  const { listener, seen, reads } = setUp(t)
  const started = listener.start(undefined)
  listener.push(publication(1, 'b'))
  reads.shift()!.answer({ offset: 7, epoch: 'a' })
  await started
  await turn()
  reads.shift()!.answer({ offset: 1, epoch: 'b', publications: [publication(1, 'b')] })
  await turn()
  listener.push(publication(2, 'b'))
  await turn()
  t.strictSame(seen, ['b1', 'b2'])
})

t.test('what no history keeps comes while the listener begins: it is not lost, as the listener is not there yet', async (t) => {
  const { listener, seen, missed, reads } = setUp(t)
  const started = listener.start(undefined)
  listener.push(publication(0, ''))
  reads.shift()!.answer({})
  await started
  listener.push(publication(1, 'a'))
  await turn()
  t.strictSame(missed, [])
  t.strictSame(seen, ['a1'])
})

t.test('the epoch ends while the history after since is read: it is refused', async (t) => {
  const { listener, reads } = setUp(t)
  const started = listener.start({ offset: 7, epoch: 'a' })
  listener.push(publication(1, 'b'))
  reads.shift()!.answer({ offset: 7, epoch: 'a' })
  await t.rejects(started, { code: 'FST_CRWS_UNRECOVERABLE_POSITION' })
})

t.test('the history is gone before the new epoch has arrived: what was not read is lost, and what comes then is taken', async (t) => {
  const { listener, seen, missed, reads, fill, start } = setUp(t)
  await start()
  const letGo = await fill()
  letGo()
  await turn()
  t.strictSame(reads[0]!.since, { offset: 1_000, epoch: 'a' })
  reads.shift()!.fail(new UnrecoverablePositionError('room'))
  await turn()
  t.strictSame(missed, [10])
  listener.push(publication(1, 'b'))
  await turn()
  t.strictSame(seen.slice(1_000), ['b1'])
})

t.test('the new epoch arrives while the history is read: the next read is of the new one', async (t) => {
  for (const how of ['answers', 'fails']) {
    const { listener, seen, missed, reads, fill, start } = setUp(t)
    await start()
    const letGo = await fill()
    letGo()
    await turn()
    listener.push(publication(1, 'b'))
    const read = reads.shift()!
    if (how === 'answers') read.answer({ offset: 1_010, publications: [publication(1_001, 'a')] })
    else read.fail(new UnrecoverablePositionError('room'))
    await turn()
    t.strictSame(missed, [10])
    t.strictSame(reads[0]!.since, { offset: 0, epoch: 'b' })
    reads.shift()!.answer({ offset: 1, epoch: 'b', publications: [publication(1, 'b')] })
    await turn()
    t.strictSame(seen.slice(1_000), ['b1'])
  }
})

t.test('the history has expired: what it does not hold is lost, and the listener is live', async (t) => {
  const { listener, seen, missed, reads, fill, start } = setUp(t)
  await start()
  const letGo = await fill()
  t.equal(listener.canAccept(), true, 'it reads again what it cannot take')
  letGo()
  await turn()
  reads.shift()!.answer({ offset: 1_010 })
  await turn()
  t.strictSame(missed, [10])
  listener.push(publication(1_010, 'a'))
  listener.push(publication(1_011, 'a'))
  await turn()
  t.strictSame(seen.slice(1_000), ['a1011'])
})

t.test('a repair waits while a handler is full', async (t) => {
  const { listener, start, fill } = setUp(t)
  await start()
  const filled = fill()
  t.equal(listener.canAccept(), true, 'it is behind')
  await filled
  const other = setUp(t)
  await other.start()
  for (let n = 1; n <= 1_000; n++) other.listener.push(publication(n, 'a'))
  t.equal(other.listener.canAccept(), false)
  await other.listener.stop()
  t.equal(other.listener.canAccept(), true)
  other.listener.push(publication(1_001, 'a'))
  await turn()
  t.strictSame(other.seen, [])
})

t.test('a channel waits for its listeners, and the app may close while it begins to listen', async (t) => {
  const namespaces = new ChannelNamespaces(new Map())
  const hub = new Hub(new MemoryBroker(), namespaces, 1_000_000, {} as never)
  const listeners = new Listeners(hub, namespaces, {} as never)
  const listening = listeners.listen('room', () => {})
  await listeners.close()
  await t.rejects(listening, { code: 'FST_CRWS_CLOSING', message: /listen cannot start/ })
  t.equal(hub.channels, 0)
})
