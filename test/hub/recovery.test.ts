import t from 'tap'
import { recover } from '../../lib/hub/recovery.ts'
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
