import t from 'tap'
import { newPublication } from '../../../lib/model/publication.ts'
import { arrivalOf } from '../../../lib/protocols/uni-sse/arrival.ts'
import { mayReturn, stampOf, uniSseEncoder } from '../../../lib/protocols/uni-sse/encoder.ts'
import { EventIds } from '../../../lib/protocols/uni-sse/event-ids.ts'
import { idLine, readId, segmentOf } from '../../../lib/protocols/uni-sse/ids.ts'

const idOf = (positions: Record<string, { offset: number, epoch: string }>) =>
  idLine(Object.entries(positions).map(([channel, position]) => segmentOf(channel, position))).slice('id: '.length).trimEnd()

t.test('an id holds the positions of all channels, whatever their names and epochs are', async (t) => {
  const positions = {
    news: { offset: 0, epoch: 'aBc-_123' },
    'chat:#42,43': { offset: Number.MAX_SAFE_INTEGER, epoch: 'x~y.z%é\n' }
  }
  const id = idOf(positions)
  t.match(id, /^[\x21-\x7e]+$/, 'it can be a header')
  const read = readId(id)
  for (const [channel, position] of Object.entries(positions)) t.strictSame(read.of(channel), position)
  t.equal(read.of('other'), undefined)
})

t.test('the ids of 32 channels fit into a header', async (t) => {
  const id = idOf(Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`channel ${i} ${'x'.repeat(200)}`, { offset: 2 ** 40, epoch: 'aBc-_123' }])))
  t.ok(id.length < 1_024, `${id.length} bytes`)
})

t.test('what is no id is an unknown position in every channel, and no id is none', async (t) => {
  for (const id of ['0', 'x', '1~', '1~a.b.c', '1~aaaaaaaa.e.zzzzzzzzzzz', '1~aaaaaaaa.%.1', '1~aaaaaaaa.e.1~', 'end', `1~${'x'.repeat(8_192)}`]) {
    t.strictSame(readId(id).of('news'), { offset: 0, epoch: '?' }, id.slice(0, 30))
  }
  t.equal(readId('').of('news'), undefined)
  t.equal(readId(undefined).of('news'), undefined)
  t.equal(readId('1').of('news'), undefined)
})

t.test('an event is the same buffer for all; its own id serves a client with one channel', async (t) => {
  const publication = { ...newPublication('i', { kind: 'json', payload: Buffer.from('{"a":1}') }), offset: 5, epoch: 'e' }
  const { payload } = uniSseEncoder.publication('news', publication)
  t.equal(payload.toString(), `data: {"channel":"news","offset":5,"epoch":"e","data":{"a":1}}\nid: ${idOf({ news: publication })}\n\n`)
  const one = new EventIds()
  t.equal(one.advance(payload), undefined)
  t.equal(one.line, `id: ${idOf({ news: publication })}\n`)
  const two = new EventIds()
  two.set('chat', segmentOf('chat', { offset: 2, epoch: 'f' }))
  const { tail } = two.advance(payload)!
  t.equal(payload.subarray(0, payload.length - tail).toString(), 'data: {"channel":"news","offset":5,"epoch":"e","data":{"a":1}}\n')
  t.strictSame(readId(two.line.slice(4, -1)).of('chat'), { offset: 2, epoch: 'f' })
  t.strictSame(readId(two.line.slice(4, -1)).of('news'), { offset: 5, epoch: 'e' })
  t.equal(new EventIds().line, '')
})

t.test('a client is at the position from which it goes on, whatever it was sent', async (t) => {
  const top = { recovered: false, missed: [], live: [], offset: 3, epoch: 'e', top: 7 }
  const { frames, segment } = arrivalOf('text', top, undefined, true)
  t.equal(segment, segmentOf('text', { offset: 3, epoch: 'e' }))
  t.equal(frames.at(-1)!.payload.toString(), `id: ${idOf({ text: { offset: 7, epoch: 'e' } })}\n\n`)
  const gap = arrivalOf('text', { ...top, live: [{ ...newPublication('i', { kind: 'json', payload: Buffer.from('1') }), offset: 7 }] }, { offset: 1, epoch: 'd' }, true)
  t.equal(stampOf(gap.frames[0]!.payload)!.segment, segmentOf('text', { offset: 1, epoch: 'd' }), 'it would be told again')
  t.equal(stampOf(gap.frames[1]!.payload)!.segment, segmentOf('text', { offset: 7, epoch: 'e' }))
})

t.test('close codes tell whether to come back', async (t) => {
  const codes = [1000, 1001, 1003, 1008, 1009, 1011, 1012, 3005, 3499, 3500, 3999, 4000, 4499, 4500, 4999]
  t.strictSame(codes.filter(code => mayReturn({ code })), [1001, 1011, 1012, 3005, 3499, 4000, 4499])
})
