import t from 'tap'
import { recover, recoverNewest, topOf } from '../../lib/hub/recovery.ts'
import { encodePayload } from '../../lib/model/publication.ts'
import type { Publication } from '../../lib/model/publication.ts'
import { range } from '../backends/broker-contract.ts'

const base = { ...encodePayload(null), time: 1, instance: 'a', sequence: 0 }
const publications = (offsets: number[], epoch = 'e'): Publication[] => offsets.map(offset => ({ ...base, offset, epoch }))
const history = (offset: number, offsets: number[], epoch = 'e') => ({ offset, epoch, publications: publications(offsets, epoch) })
const since = (offset: number, epoch = 'e') => ({ offset, epoch })

function begin (...args: Parameters<typeof recover>) {
  const caughtUp = recover(...args)
  const offsets = (publications: Publication[]) => publications.map(({ offset }) => offset)
  return caughtUp && { ...caughtUp, missed: offsets(caughtUp.missed), live: offsets(caughtUp.live) }
}

const recovered = (offset: number, missed: number[]) => ({ recovered: true, missed, live: [], offset, epoch: 'e' })
const top = (offset: number, live: number[] = []) => ({ recovered: false, missed: [], live, offset, epoch: 'e' })

t.test('a subscriber gets what it missed, with the position that it named', async (t) => {
  t.strictSame(begin(since(3), history(6, [4, 5, 6]), []), recovered(3, [4, 5, 6]))
  t.strictSame(begin(since(0), history(3, [1, 2, 3]), []), recovered(0, [1, 2, 3]))
})

t.test('a subscriber that missed nothing gets nothing', async (t) => {
  t.strictSame(begin(since(6), history(6, []), []), recovered(6, []))
  t.strictSame(begin(since(0), history(0, []), []), recovered(0, []))
})

t.test('what is published meanwhile is joined without doubles', async (t) => {
  t.strictSame(begin(since(3), history(6, [4, 5, 6]), publications([5, 6, 7, 8])), recovered(3, range(4, 8)))
  t.strictSame(begin(since(6), history(6, []), publications([7])), recovered(6, [7]))
  t.strictSame(begin(since(3), history(6, [4, 5, 6]), publications([4])), recovered(3, [4, 5, 6]))
  t.strictSame(begin(since(6), history(6, []), publications([5, 6])), recovered(6, []))
})

t.test('with a hole nothing is recovered, and it begins at the top of the history', async (t) => {
  t.strictSame(begin(since(3), history(9, [6, 7, 8, 9]), []), top(9), 'the history begins too late')
  t.strictSame(begin(since(3), history(9, [4, 6, 7, 8, 9]), []), top(9), 'one is missing in it')
  t.strictSame(begin(since(3), history(9, [4, 5]), []), top(9), 'it ends too early')
  t.strictSame(begin(since(3), history(9, []), []), top(9), 'it has expired')
  t.strictSame(begin(since(12), history(9, []), []), top(9), 'the position is one that Redis has not reached')
})

t.test('a subscriber that names no position begins at the top, and gets what was published since that was read', async (t) => {
  t.strictSame(begin(undefined, history(6, []), []), top(6))
  t.strictSame(begin(undefined, history(6, []), publications([5, 6, 7, 8])), top(6, [7, 8]))
})

t.test('with another epoch nothing is recovered', async (t) => {
  t.strictSame(begin(since(3, 'old'), history(6, [4, 5, 6]), []), top(6))
  t.strictSame(begin(since(3, 'old'), history(6, []), publications([7])), top(6, [7]))
})

t.test('a new epoch that begins before the history is read leaves no gap', async (t) => {
  const live = [...publications([8, 9], 'old'), ...publications([1, 2, 3])]
  t.strictSame(begin(undefined, history(2, []), live), top(2, [3]))
  t.strictSame(begin(since(7, 'old'), history(2, [1, 2]), live), top(2, [3]))
  t.equal(begin(since(7, 'old'), history(9, [8, 9], 'old'), live), undefined, 'it begins after the read: its position is void')
})

t.test('with a hole in what came live it can not even begin', async (t) => {
  t.equal(begin(since(3), history(5, [4, 5]), publications([7])), undefined)
  t.equal(begin(undefined, history(5, []), publications([7])), undefined)
  t.equal(begin(since(3), history(5, [4, 5]), publications([1], 'new')), undefined)
})

t.test('an empty epoch stands for any', async (t) => {
  t.strictSame(begin(since(3, ''), history(5, [4, 5]), publications([6])), recovered(3, [4, 5, 6]))
})

t.test('what is in no history stays where the broker had it', async (t) => {
  const arrived = (offsets: number[]) => publications(offsets).map(one => one.offset > 0 ? one : { ...one, epoch: '' })
  const order = (...args: Parameters<typeof recover>) => begin(...args)
  // Each 0 was published with `history: false`. What has an offset before the first of them is in the reply.
  const all = order(since(3), history(6, [4, 5, 6]), arrived([5, 0, 6, 0, 7]))
  t.match(all, { recovered: true, missed: [4, 5], live: [0, 6, 0, 7], offset: 3 })
  t.match(order(since(3), history(6, [4, 5, 6]), arrived([0, 5, 6])), { missed: [4], live: [0, 5, 6] }, 'the first that arrived')
  t.match(order(since(3), history(6, [4, 5, 6]), arrived([5, 0])), { missed: [4, 5], live: [0, 6] }, '6 has not arrived yet')
  t.match(order(since(3), history(6, [4, 5, 6]), arrived([0])), { missed: [4, 5, 6], live: [0] }, 'when they arrived is not known')
  t.match(order(undefined, history(6, []), arrived([6, 0, 7, 0, 8])), { recovered: false, missed: [], live: [0, 7, 0, 8], offset: 6 })
  t.match(order(since(3, 'old'), history(2, []), [...publications([9], 'old'), ...arrived([0, 1, 2, 0, 3])]), { live: [0, 0, 3] })
  t.equal(order(undefined, history(5, []), arrived([0, 7])), undefined, 'a gap')
  const found = recover(since(3), history(6, [4, 5, 6]), arrived([5, 0, 6, 7, 0]))!
  t.equal(topOf(found), 7)
})

t.test('where the newest one counts, what is in no history stays before or behind it', async (t) => {
  const arrived = (offsets: number[]) => publications(offsets).map(one => one.offset > 0 ? one : { ...one, epoch: '' })
  const order = (...args: Parameters<typeof recover>) => {
    const { recovered, missed, live, offset } = recoverNewest(...args)!
    return [recovered, missed.map(({ offset }) => offset), live.map(({ offset }) => offset), offset]
  }
  t.strictSame(order(undefined, history(6, [6]), arrived([0, 7])), [true, [], [0, 7], 6])
  t.strictSame(order(undefined, history(6, [6]), arrived([7, 0])), [true, [7], [0], 6])
  t.strictSame(order(since(6), history(6, [6]), arrived([0])), [true, [], [0], 6], 'it has the newest one')
  t.strictSame(order(undefined, history(0, []), arrived([0])), [false, [], [0], 0])
})
