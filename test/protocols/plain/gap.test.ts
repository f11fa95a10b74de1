import t from 'tap'
import type { SubscribedChannel } from '../../../lib/hub/subscription.ts'
import { Subscription } from '../../../lib/hub/subscription.ts'
import type { Position } from '../../../lib/model/publication.ts'
import { newPublication } from '../../../lib/model/publication.ts'
import { PlainSession, plainEncoder } from '../../../lib/protocols/plain/session.ts'

/** A connection that the app subscribes, in the moment in which everything is there and it is not admitted yet. */
function joining (channel: Partial<SubscribedChannel> = {}) {
  const written: string[] = []
  const recoveries: boolean[] = []
  const connection = { id: 'me', write: ({ payload }: { payload: Buffer }) => written.push(String(payload)) }
  const owner = {
    encoder: plainEncoder,
    observer: { recovered: (recovered: boolean) => recoveries.push(recovered) },
    subscriptions: { announceJoin: () => {} }
  }
  const session = new PlainSession(connection as never, owner as never)
  const subscription = new Subscription(connection as never, 'room:1', true)
  subscription.join({ start: 'missed', admit: () => {}, remove: () => {}, follow: () => {}, flushTo: () => {}, ...channel })
  return { session, subscription, written, recoveries }
}

const publication = (text: string, offset = 0, epoch = '', except?: string) => {
  return { ...newPublication('other', { kind: 'text', payload: Buffer.from(text) }), offset, epoch, ...(except !== undefined && { except }) }
}
const before = (offset: number, texts: string[]) => {
  return { offset, epoch: 'old', publications: texts.map((text, i) => publication(text, offset - texts.length + i + 1, 'old')) }
}

t.test('a plain connection that the app subscribes while a new epoch begins gets what has arrived', async (t) => {
  const { session, subscription, written, recoveries } = joining()
  subscription.read(before(4, []))
  for (const one of [publication('4', 4, 'old'), publication('5', 5, 'old'), publication('a'), publication('not for me', 0, '', 'me')]) subscription.buffer(one)
  for (const one of [publication('new 1', 1, 'new'), publication('b'), publication('new 2', 2, 'new')]) subscription.buffer(one)
  t.strictSame(session.subscribed(subscription), {})
  t.strictSame(written, ['5', 'a', 'new 1', 'b', 'new 2'])
  t.strictSame(recoveries, [], 'it has named no position')
  t.equal(subscription.state, 'live')
  t.equal(subscription.hasAlready(publication('new 2', 2, 'new')), true)
  t.equal(subscription.hasAlready(publication('new 3', 3, 'new')), false)
})

t.test('if the app has named a position, it gets what it missed before the gap, too, and is told that not all is there', async (t) => {
  const { session, subscription, written, recoveries } = joining()
  const since: Position = { offset: 2, epoch: 'old' }
  subscription.since = since
  subscription.read(before(4, ['3', '4']))
  for (const one of [publication('4', 4, 'old'), publication('7', 7, 'old')]) subscription.buffer(one)
  t.strictSame(session.subscribed(subscription), { recovered: false, offset: 7, epoch: 'old' })
  t.strictSame(written, ['3', '4', '7'])
  t.strictSame(recoveries, [false])
})

t.test('where only the newest one counts, it comes last', async (t) => {
  const { session, subscription, written } = joining({ start: 'newest' })
  subscription.read(before(4, ['4']))
  subscription.buffer(publication('new 1', 1, 'new'))
  subscription.buffer(publication('new 2', 2, 'new'))
  session.subscribed(subscription)
  t.strictSame(written, ['new 1', 'new 2'])
})
