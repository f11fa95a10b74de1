import t from 'tap'
import { encodePayload } from '../../../lib/model/publication.ts'
import type { Publication } from '../../../lib/model/publication.ts'
import { RedisFeed } from '../../../lib/backends/redis/feed.ts'
import { encodePublication, NO_POSITION } from '../../../lib/backends/redis/wire-format.ts'
import { range } from '../broker-contract.ts'

const MAX_BUFFERED = 1_000

const base = { ...encodePayload(null), time: 1, instance: 'a', sequence: 0 }

function publication (offset: number, epoch = 'e'): Publication { return { ...base, offset, epoch } }
function unnumbered (sequence: number, instance = 'a'): Publication { return { ...base, instance, sequence, offset: 0, epoch: '' } }

/** The Pub/Sub message that carries a publication. */
function message (publication: Publication): Buffer {
  const { offset, epoch, sequence } = publication
  return encodePublication(publication, sequence, offset === 0 ? NO_POSITION : `${offset} ${epoch} `)
}

/**
 * A feed, and what it called in order: the offset of each publication delivered, 'missed 2' for a gap, 'position lost'.
 * `asked` counts how often it asked for a repair.
 */
function newFeed (hasHistory = true) {
  const told: Array<number | string> = []
  const asked = { repairs: 0, unsubscribes: 0 }
  const feed = new RedisFeed('room', 'pub:room', hasHistory, {
    deliver: ({ offset, epoch, sequence, instance }) => {
      told.push(hasHistory ? epoch === 'e' ? offset : `${epoch}${offset}` : instance === 'a' ? sequence : `${instance}${sequence}`)
    },
    canAccept: () => true,
    missed: count => { told.push(`missed ${count}`) },
    positionLost: () => { told.push('position lost') }
  }, {
    gapFound: () => { asked.repairs++ },
    leftOver: () => { asked.unsubscribes++ }
  })
  const receive = (...publications: Publication[]) => publications.forEach(one => feed.receive(message(one)))
  const read = (offset: number, offsets: number[] = [], epoch = 'e') => {
    return { offset, epoch, publications: offsets.map(one => publication(one, epoch)) }
  }
  return { feed, told, asked, receive, read }
}

/** A live feed that has delivered up to `offset`. */
function liveFeed (offset: number) {
  const all = newFeed()
  all.feed.finishReplay(all.read(offset), all.feed.generation)
  return all
}

t.test('a new feed is buffering: it delivers nothing, and a repair reads the position alone', async (t) => {
  const { feed, told, asked, receive } = newFeed()
  t.equal(feed.buffering, true)
  t.equal(feed.since, undefined)
  receive(publication(6), publication(7))
  t.strictSame(told, [])
  t.equal(asked.repairs, 2)
})

t.test('buffering → live: finishReplay of the first read delivers all that is buffered, read or not', async (t) => {
  const { feed, told, receive, read } = newFeed()
  receive(publication(6), publication(7))
  feed.finishReplay(read(7), feed.generation)
  t.strictSame(told, [6, 7], 'though the position was read after they were published')
  t.equal(feed.buffering, false)
  t.match(feed.since, { offset: 7, epoch: 'e' })
})

t.test('live: a publication that follows is delivered at once', async (t) => {
  const { feed, told, asked, receive } = liveFeed(7)
  receive(publication(8), publication(9))
  t.strictSame(told, [8, 9])
  t.match(feed.since, { offset: 9, epoch: 'e' })
  t.equal(feed.buffering, false)
  t.equal(asked.repairs, 0)
})

t.test('live: a duplicate is not delivered', async (t) => {
  const { feed, told, receive, read } = newFeed()
  receive(publication(6))
  feed.finishReplay(read(5), feed.generation)
  receive(publication(6), publication(7), publication(7), publication(3))
  t.strictSame(told, [6, 7])
  t.equal(feed.buffering, false)
})

t.test('live: a publication of another epoch is delivered, and the loss of the history before it is counted', async (t) => {
  const { feed, told, receive } = liveFeed(5)
  receive(publication(6), publication(1, 'f'), publication(2, 'f'))
  t.strictSame(told, [6, 'position lost', 'missed 1', 'f1', 'f2'])
  t.equal(feed.buffering, false)
})

t.test('live: a publication without a position is delivered, and does not move the position', async (t) => {
  const { feed, told, receive } = liveFeed(5)
  receive(publication(6), { ...base, sequence: 1, offset: 0, epoch: '' }, publication(7))
  t.strictSame(told, [6, '0', 7])
  t.equal(feed.buffering, false)
})

t.test('live: verify with the same position changes nothing', async (t) => {
  const { feed, told, receive } = liveFeed(5)
  const before = feed.verifiedAt = 1
  feed.verify({ offset: 5, epoch: 'e' })
  t.equal(feed.buffering, false)
  t.ok(feed.verifiedAt > before)
  feed.verify({ offset: 4, epoch: 'e' })
  t.equal(feed.buffering, false, 'a publication has arrived since the position was read')
  receive(publication(6))
  t.strictSame(told, [6])
})

t.test('live: finishReplay of a repair that the feed gave up is ignored', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.finishReplay(read(8, [6, 7, 8]), feed.generation)
  receive(publication(6))
  t.strictSame(told, [6])
})

t.test('live → buffering: a publication after a gap waits, and asks for a repair', async (t) => {
  const { feed, told, asked, receive } = liveFeed(5)
  receive(publication(6))
  t.equal(asked.repairs, 0)
  receive(publication(9), publication(10))
  t.equal(feed.buffering, true)
  t.strictSame(told, [6])
  t.match(feed.since, { offset: 6, epoch: 'e' })
  t.equal(asked.repairs, 2)
})

t.test('live → buffering: markGap, after which even a publication that follows waits', async (t) => {
  const { feed, told, receive } = liveFeed(5)
  feed.markGap()
  t.equal(feed.buffering, true)
  receive(publication(6))
  t.strictSame(told, [])
})

t.test('live → buffering: verify, if the stream is ahead', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.verify({ offset: 6, epoch: 'e' })
  t.equal(feed.buffering, true)
  receive(publication(7))
  feed.finishReplay(read(7, [6, 7]), feed.generation)
  t.strictSame(told, [6, 7])
})

t.test('live → buffering: verify, if the stream has another epoch', async (t) => {
  const { feed } = liveFeed(5)
  feed.verify({ offset: 5, epoch: 'f' })
  t.equal(feed.buffering, true)
})

t.test('buffering: verify before the first read changes nothing', async (t) => {
  const { feed } = newFeed()
  const { generation } = feed
  feed.verify({ offset: 5, epoch: 'e' })
  t.equal(feed.generation, generation)
})

t.test('buffering → live: finishReplay delivers what it read, then what is buffered, each once', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(6), publication(9), publication(10), publication(11))
  feed.finishReplay(read(10, [7, 8, 9, 10]), feed.generation)
  t.strictSame(told, range(6, 11))
  t.equal(feed.buffering, false)
})

t.test('buffering → live: finishReplay with nothing new delivers nothing', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.markGap()
  feed.finishReplay(read(5), feed.generation)
  t.equal(feed.buffering, false)
  t.strictSame(told, [])
  receive(publication(6))
  t.strictSame(told, [6])
})

t.test('buffering → live: finishReplay reports what the history no longer holds before it delivers the rest', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(12))
  feed.finishReplay(read(12, [9, 10, 11, 12]), feed.generation)
  t.strictSame(told, ['position lost', 'missed 3', 9, 10, 11, 12])
  t.equal(feed.buffering, false)
})

t.test('buffering → live: finishReplay with an empty history reports all that is not buffered', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(8), publication(9))
  feed.finishReplay(read(9), feed.generation)
  t.strictSame(told, ['position lost', 'missed 2', 8, 9])
  receive(publication(10))
  t.strictSame(told, ['position lost', 'missed 2', 8, 9, 10])
})

t.test('buffering → buffering: finishReplay of a repair that began before the last gap', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.markGap()
  const { generation } = feed
  receive(publication(7))
  feed.markGap()
  feed.finishReplay(read(7, [6, 7]), generation)
  t.strictSame(told, [6, 7])
  t.equal(feed.buffering, true)
  receive(publication(9))
  t.strictSame(told, [6, 7])
  feed.finishReplay(read(9, [8, 9]), feed.generation)
  t.strictSame(told, [6, 7, 8, 9])
  t.equal(feed.buffering, false)
})

t.test('buffering → live: too many buffered publications; the gap is reported, and the repair is ignored when it ends', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  const { generation } = feed
  receive(...range(3, MAX_BUFFERED + 2).map(offset => publication(offset)))
  t.equal(feed.buffering, true)
  receive(publication(MAX_BUFFERED + 3))
  t.strictSame(told, ['position lost', 'missed 2', ...range(3, MAX_BUFFERED + 3)])
  t.equal(feed.buffering, false)
  // The repair has read publications that are still on their way.
  feed.finishReplay(read(1_005, range(1, 1_000)), generation)
  receive(publication(1_004), publication(1_005))
  t.strictSame(told, ['position lost', 'missed 2', ...range(3, 1_005)])
})

t.test('buffering → live: too many buffered publications before the first read, which is ignored when it ends', async (t) => {
  const { feed, told, receive, read } = newFeed()
  receive(...range(8, MAX_BUFFERED + 8).map(offset => publication(offset)))
  t.strictSame(told, range(8, 1_008))
  t.equal(feed.buffering, false)
  feed.finishReplay(read(1_010), 0)
  receive(publication(1_009), publication(1_010), publication(1_011))
  t.strictSame(told, range(8, 1_011))
})

t.test('buffering → replaying → live: replay delivers while publications wait, finishReplay delivers the rest', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  receive(publication(7))
  for (const one of read(6, [1, 2, 3]).publications) feed.replay(one)
  t.strictSame(told, [1, 2, 3])
  t.match(feed.since, { offset: 3, epoch: 'e' })
  t.equal(feed.buffering, true)
  receive(publication(8))
  t.strictSame(told, [1, 2, 3])
  feed.finishReplay(read(6, [4, 5, 6]), feed.generation)
  t.strictSame(told, range(1, 8))
  t.equal(feed.buffering, false)
})

t.test('replaying: a long repair that makes progress is not given up', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  receive(...range(3, 1_002).map(offset => publication(offset)))
  for (const one of read(1_002, range(1, 500)).publications) feed.replay(one)
  receive(...range(1_003, 1_400).map(offset => publication(offset)))
  t.equal(feed.buffering, true)
  feed.finishReplay(read(1_400, range(501, 1_400)), feed.generation)
  t.strictSame(told, range(1, 1_400))
})

t.test('replaying → replaying: markGap, after which finishReplay does not go live', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  feed.markGap()
  const { generation } = feed
  feed.replay(publication(1))
  feed.markGap()
  feed.finishReplay(read(2, [2]), generation)
  t.strictSame(told, [1, 2])
  t.equal(feed.buffering, true)
  receive(publication(4))
  feed.finishReplay(read(4, [3, 4]), feed.generation)
  t.strictSame(told, [1, 2, 3, 4])
  t.equal(feed.buffering, false)
})

t.test('buffering: beginEpoch without a base reports the loss, and the whole new history is delivered', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.markGap()
  receive(publication(3, 'f'))
  feed.beginEpoch({ epoch: 'f', base: 0, previous: '' })
  t.equal(feed.buffering, true)
  feed.finishReplay(read(3, [1, 2, 3], 'f'), feed.generation)
  receive(publication(4, 'f'))
  t.strictSame(told, ['position lost', 'missed 1', 'f1', 'f2', 'f3', 'f4'])
})

t.test('buffering: beginEpoch first delivers what is buffered of the old one', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(7), publication(8))
  feed.markGap()
  receive(publication(1, 'f'))
  feed.beginEpoch({ epoch: 'f', base: 0, previous: '' })
  feed.finishReplay(read(2, [1, 2], 'f'), feed.generation)
  receive(publication(2, 'f'), publication(3, 'f'))
  t.strictSame(told, ['position lost', 'missed 1', 7, 8, 'position lost', 'missed 1', 'f1', 'f2', 'f3'])
})

t.test('buffering: beginEpoch after a base says how many are lost, and delivery goes on after it', async (t) => {
  const { feed, told, receive, read } = liveFeed(9)
  feed.markGap()
  receive(publication(5, 'f'))
  feed.beginEpoch({ epoch: 'f', base: 4, previous: 'e' })
  feed.finishReplay(read(5, [5], 'f'), feed.generation)
  receive(publication(6, 'f'))
  t.strictSame(told, ['position lost', 'missed 5', 'f5', 'f6'])
})

t.test('buffering: beginEpoch after a base that the feed had not reached delivers what the old epoch has left', async (t) => {
  const { feed, told, read } = liveFeed(2)
  feed.markGap()
  feed.beginEpoch({ epoch: 'f', base: 4, previous: 'e' })
  feed.finishReplay(read(5, [3, 4, 5], 'f'), feed.generation)
  t.strictSame(told, ['position lost', 'missed 1', 'f3', 'f4', 'f5'])
})

t.test('buffering: beginEpoch after a base takes what the stream has from the stream, where an offset was given twice', async (t) => {
  const { feed, told, receive, read } = liveFeed(3)
  feed.markGap()
  receive(publication(4), publication(5)) // 1 to 3 have been given again before, and their messages were lost
  feed.beginEpoch({ epoch: 'f', base: 5, previous: 'e' })
  feed.finishReplay(read(5, [4, 5], 'f'), feed.generation)
  t.strictSame(told, ['position lost', 'missed 1', 'f4', 'f5'])
})

t.test('buffering: beginEpoch after a base first delivers what is buffered and no longer in the stream', async (t) => {
  const { feed, told, receive, read } = liveFeed(3)
  feed.markGap()
  receive(publication(4), publication(5))
  feed.beginEpoch({ epoch: 'f', base: 3, previous: 'e' })
  feed.finishReplay(read(4, [4], 'f'), feed.generation)
  t.strictSame(told, [4, 5, 'position lost', 'missed 2', 'f4'])
})

t.test('live: an offset that was given before asks for a repair if its publication is younger', async (t) => {
  const { feed, asked, told, receive } = liveFeed(7)
  receive({ ...publication(8), time: 50 }, { ...publication(8), time: 50 }, { ...publication(7), time: 49 })
  t.equal(feed.buffering, false, 'duplicates from before a repair')
  receive({ ...publication(7), time: 51 })
  t.equal(feed.buffering, true)
  t.equal(asked.repairs, 1)
  t.strictSame(told, [8])
})

t.test('buffering: beginEpoch of an epoch that continues another one than the last delivers nothing of what that has left', async (t) => {
  const { feed, told, read } = liveFeed(2)
  feed.markGap()
  feed.beginEpoch({ epoch: 'f', base: 4, previous: 'd' })
  feed.finishReplay(read(5, [5], 'f'), feed.generation)
  t.strictSame(told, ['position lost', 'missed 1', 'f5'])
})

t.test('closed: a message is not delivered, and asks for another unsubscribe', async (t) => {
  const { feed, told, asked, receive } = liveFeed(5)
  feed.close()
  receive(publication(6))
  t.strictSame(told, [])
  t.strictSame(asked, { repairs: 0, unsubscribes: 1 })
})

t.test('without history a feed is always live', async (t) => {
  const { feed, asked, receive } = newFeed(false)
  t.equal(feed.buffering, false)
  receive(unnumbered(1), unnumbered(3))
  t.equal(feed.buffering, false)
  feed.markGap()
  t.equal(feed.buffering, false, 'there is nothing to repair a gap from')
  t.equal(asked.repairs, 0)
})

t.test('without history each instance has a sequence, and a gap in it is reported', async (t) => {
  const { feed, told, receive } = newFeed(false)
  receive(unnumbered(41), unnumbered(42), unnumbered(1, 'b'), unnumbered(45), unnumbered(2, 'b'))
  t.strictSame(told, [41, 42, 'b1', 'missed 2', 45, 'b2'])
  feed.markGap()
  receive(unnumbered(47))
  t.strictSame(told.slice(6), ['missed 1', 47])
})

t.test('without history the sequence of an instance may start again at 1', async (t) => {
  const { told, receive } = newFeed(false)
  receive(unnumbered(41), unnumbered(1), unnumbered(2), unnumbered(4))
  t.strictSame(told, [41, 1, 2, 'missed 1', 4])
})

t.test('without history publications out of order are delivered and counted once', async (t) => {
  const { told, receive } = newFeed(false)
  receive(unnumbered(41), unnumbered(43), unnumbered(42), unnumbered(44))
  t.strictSame(told, [41, 'missed 1', 43, 42, 44])
})

t.test('without history the sequences of a thousand instances are remembered, not more', async (t) => {
  const { told, receive } = newFeed(false)
  receive(unnumbered(1))
  receive(...range(1, 999).map(i => unnumbered(1, `b${i}-`)))
  receive(unnumbered(3))
  t.strictSame(told.slice(-2), ['missed 1', 3])
  receive(unnumbered(1, 'other'))
  receive(unnumbered(9))
  t.strictSame(told.slice(-2), ['other1', 9], 'one more, and all are forgotten')
})
