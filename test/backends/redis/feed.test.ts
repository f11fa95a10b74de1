import t from 'tap'
import { encodePayload } from '../../../lib/model/publication.ts'
import type { Publication } from '../../../lib/model/publication.ts'
import { RedisFeed } from '../../../lib/backends/redis/feed.ts'
import { encodePublication, NO_POSITION } from '../../../lib/backends/redis/wire-format.ts'
import { range } from '../broker-contract.ts'

const base = { ...encodePayload(null), time: 1, instance: 'a', sequence: 0 }

function publication (offset: number, epoch = 'e'): Publication { return { ...base, offset, epoch } }
function unnumbered (sequence: number, instance = 'a'): Publication { return { ...base, instance, sequence, offset: 0, epoch: '' } }

/** The Pub/Sub message that carries a publication. */
function message (publication: Publication): Buffer {
  return encodePublication(publication, publication.sequence, publication.offset === 0 ? NO_POSITION : `${publication.offset} ${publication.epoch} `)
}

/** A feed, and what it told in order: offsets that were delivered, 'missed 2' for those that were not, 'position lost' where positions end. */
function newFeed (hasHistory = true) {
  const told: Array<number | string> = []
  const feed = new RedisFeed('room', 'pub:room', hasHistory, {
    deliver: ({ offset, epoch, sequence, instance }) => {
      told.push(hasHistory ? epoch === 'e' ? offset : `${epoch}${offset}` : instance === 'a' ? sequence : `${instance}${sequence}`)
    },
    canAccept: () => true,
    missed: count => { told.push(`missed ${count}`) },
    positionLost: () => { told.push('position lost') }
  }, { gapFound: () => {}, leftOver: () => {} })
  const receive = (...publications: Publication[]) => publications.forEach(one => feed.receive(message(one)))
  const read = (offset: number, offsets: number[] = [], epoch = 'e') => ({ offset, epoch, publications: offsets.map(one => publication(one, epoch)) })
  return { feed, told, receive, read }
}

/** One that has delivered up to `offset`. */
function liveFeed (offset: number) {
  const all = newFeed()
  all.feed.finishReplay(all.read(offset), all.feed.generation)
  return all
}

t.test('nothing is delivered before the position is known, then what arrived after it', async (t) => {
  const { feed, told, receive, read } = newFeed()
  t.equal(feed.buffering, true)
  t.equal(feed.since, undefined)
  receive(publication(6), publication(7))
  t.strictSame(told, [])
  feed.finishReplay(read(7), feed.generation)
  t.strictSame(told, [6, 7], 'though the position was read after they were published')
  t.equal(feed.buffering, false)
  receive(publication(8))
  t.strictSame(told, [6, 7, 8])
  t.strictSame(feed.since, { offset: 8, epoch: 'e' })
})

t.test('what arrived before the position was read is delivered once', async (t) => {
  const { feed, told, receive, read } = newFeed()
  receive(publication(6))
  feed.finishReplay(read(5), feed.generation)
  receive(publication(6), publication(7), publication(7), publication(3))
  t.strictSame(told, [6, 7])
})

t.test('a gap stops the delivery until it is repaired', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(6), publication(9), publication(10))
  t.equal(feed.buffering, true)
  t.strictSame(told, [6])
  t.strictSame(feed.since, { offset: 6, epoch: 'e' })
  receive(publication(11))
  feed.finishReplay(read(10, [7, 8, 9, 10]), feed.generation)
  t.strictSame(told, range(6, 11))
  t.equal(feed.buffering, false)
})

t.test('a gap is repaired in parts', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  receive(publication(7))
  for (const one of read(6, [1, 2, 3]).publications) feed.replay(one)
  t.strictSame(feed.since, { offset: 3, epoch: 'e' })
  t.equal(feed.buffering, true)
  feed.finishReplay(read(6, [4, 5, 6]), feed.generation)
  t.strictSame(told, range(1, 7))
})

t.test('what the history no longer holds is reported before what it holds', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(12))
  feed.finishReplay(read(12, [9, 10, 11, 12]), feed.generation)
  t.strictSame(told, ['position lost', 'missed 3', 9, 10, 11, 12])
})

t.test('what an empty history no longer holds is reported, but for what arrived', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(8), publication(9))
  feed.finishReplay(read(9), feed.generation)
  t.strictSame(told, ['position lost', 'missed 2', 8, 9])
  receive(publication(10))
  t.strictSame(told, ['position lost', 'missed 2', 8, 9, 10])
})

t.test('a broken link without news costs nothing', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.markGap()
  t.equal(feed.buffering, true)
  feed.finishReplay(read(5), feed.generation)
  t.equal(feed.buffering, false)
  receive(publication(6))
  t.strictSame(told, [6])
})

t.test('a repair from before the link broke once more is not the last', async (t) => {
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

t.test('over an unbroken link another epoch loses nothing', async (t) => {
  const { feed, told, receive } = liveFeed(5)
  receive(publication(6), publication(1, 'f'), publication(2, 'f'))
  t.strictSame(told, [6, 'position lost', 'f1', 'f2'])
  t.equal(feed.buffering, false)
})

t.test('when Redis has lost the history all of the new one is delivered', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  feed.markGap()
  receive(publication(3, 'f'))
  feed.resetTo({ offset: 0, epoch: 'f' })
  feed.finishReplay(read(3, [1, 2, 3], 'f'), feed.generation)
  receive(publication(4, 'f'))
  t.strictSame(told, ['position lost', 'missed 1', 'f1', 'f2', 'f3', 'f4'])
})

t.test('what had arrived of a history that is lost is delivered before the new one', async (t) => {
  const { feed, told, receive, read } = liveFeed(5)
  receive(publication(7), publication(8))
  feed.markGap()
  receive(publication(1, 'f'))
  feed.resetTo({ offset: 0, epoch: 'f' })
  feed.finishReplay(read(2, [1, 2], 'f'), feed.generation)
  receive(publication(2, 'f'), publication(3, 'f'))
  t.strictSame(told, ['position lost', 'missed 1', 7, 8, 'position lost', 'missed 1', 'f1', 'f2', 'f3'])
})

t.test('when Redis has lost the last of the history, it goes on from there', async (t) => {
  const { feed, told, receive, read } = liveFeed(9)
  feed.markGap()
  receive(publication(5))
  feed.resetTo({ offset: 4, epoch: 'e' })
  feed.finishReplay(read(4), feed.generation)
  receive(publication(6))
  t.strictSame(told, ['position lost', 'missed 1', 5, 6])
})

t.test('a repair that does not come in time is done without', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  const { generation } = feed
  receive(...range(3, 1_003).map(offset => publication(offset)))
  t.strictSame(told, ['position lost', 'missed 2', ...range(3, 1_003)])
  t.equal(feed.buffering, false)
  // It comes after all, and has read what is still on its way.
  feed.finishReplay(read(1_005, range(1, 1_000)), generation)
  receive(publication(1_004), publication(1_005))
  t.strictSame(told, ['position lost', 'missed 2', ...range(3, 1_005)])
})

t.test('a repair that takes long but gets on loses nothing of what arrives meanwhile', async (t) => {
  const { feed, told, receive, read } = liveFeed(0)
  receive(...range(3, 1_002).map(offset => publication(offset)))
  for (const one of read(1_002, range(1, 500)).publications) feed.replay(one)
  receive(...range(1_003, 1_400).map(offset => publication(offset)))
  t.equal(feed.buffering, true)
  feed.finishReplay(read(1_400, range(501, 1_400)), feed.generation)
  t.strictSame(told, range(1, 1_400))
})

t.test('a first read that does not come in time is done without', async (t) => {
  const { feed, told, receive, read } = newFeed()
  receive(...range(8, 1_008).map(offset => publication(offset)))
  t.strictSame(told, range(8, 1_008))
  feed.finishReplay(read(1_010), 0)
  receive(publication(1_009), publication(1_010), publication(1_011))
  t.strictSame(told, range(8, 1_011))
})

t.test('without history each instance has a sequence, and a hole in it is reported', async (t) => {
  const { feed, told, receive, read } = newFeed(false)
  t.equal(feed.buffering, false)
  receive(unnumbered(41), unnumbered(42), unnumbered(1, 'b'), unnumbered(45), unnumbered(2, 'b'))
  t.strictSame(told, [41, 42, 'b1', 'missed 2', 45, 'b2'])
  feed.markGap()
  t.equal(feed.buffering, false, 'there is nothing to repair it from')
  receive(unnumbered(47))
  t.strictSame(told.slice(6), ['missed 1', 47])
  t.equal(read(0).offset, 0)
})

t.test('an instance that has forgotten its sequence begins again', async (t) => {
  const { told, receive } = newFeed(false)
  receive(unnumbered(41), unnumbered(1), unnumbered(2), unnumbered(4))
  t.strictSame(told, [41, 1, 2, 'missed 1', 4])
})

t.test('publications that overtook each other are delivered and counted once', async (t) => {
  const { told, receive } = newFeed(false)
  receive(unnumbered(41), unnumbered(43), unnumbered(42), unnumbered(44))
  t.strictSame(told, [41, 'missed 1', 43, 42, 44])
})

t.test('the sequences of a thousand instances are remembered, not more', async (t) => {
  const { told, receive } = newFeed(false)
  receive(unnumbered(1))
  receive(...range(1, 999).map(i => unnumbered(1, `b${i}-`)))
  receive(unnumbered(3))
  t.strictSame(told.slice(-2), ['missed 1', 3])
  receive(unnumbered(1, 'other'))
  receive(unnumbered(9))
  t.strictSame(told.slice(-2), ['other1', 9], 'after which they are learned anew')
})

t.test('in a channel with history a publication without a position is delivered as it comes', async (t) => {
  const { feed, told, receive } = liveFeed(5)
  receive(publication(6), { ...base, sequence: 1, offset: 0, epoch: '' }, publication(7))
  t.strictSame(told, [6, '0', 7])
  t.equal(feed.buffering, false)
})
