import t from 'tap'
import { newPublication } from '../../lib/model/publication.ts'
import { joinParts, nextCall, partOf, precedes, resumedBy, tagsOf } from '../../lib/model/stream-part.ts'

t.test('what others write to Redis is no part of a stream, whatever its tag says', async (t) => {
  const publication = (payload: string, kind: 'json' | 'text' = 'json') => ({ ...newPublication('me', { kind, payload: Buffer.from(payload) }), offset: 1, tags: tagsOf('a') })
  for (const payload of ['{', 'null', '5', '{}', '{"stream":"b","from":0,"text":""}', '{"stream":"a","from":-1,"text":""}', '{"stream":"a","from":0}']) {
    t.equal(partOf(publication(payload)), undefined, payload)
  }
  const part = { stream: 'a', from: 0, text: 'x' }
  t.strictSame(partOf(publication(JSON.stringify(part))), part)
  t.equal(partOf(publication(JSON.stringify(part), 'text')), undefined)
  t.equal(partOf({ ...publication(JSON.stringify(part)), offset: 0 }), undefined, 'published with history: false')
  t.equal(partOf({ ...publication(JSON.stringify(part)), tags: { other: 'a' } }), undefined)
})

t.test('parts are joined where they belong, and after a gap only the new one is known', async (t) => {
  const part = (from: number, text: string) => ({ stream: 'a', from, text })
  t.strictSame(joinParts(part(0, 'abc'), part(3, 'd')), part(0, 'abcd'))
  t.strictSame(joinParts(part(0, 'abc'), part(1, 'xyz')), part(0, 'axyz'))
  t.strictSame(joinParts(part(2, 'abc'), part(0, 'all of it')), part(0, 'all of it'))
  t.strictSame(joinParts(part(0, 'abc'), part(4, 'd')), part(4, 'd'))
})

t.test('of all calls that publish a stream one precedes all others, and each of them knows which', async (t) => {
  const first = nextCall(undefined)
  const second = nextCall(first)
  const atOnce = nextCall(first)
  const ofEarlierRelease = '5c6f2a9e-8f7a-4a3b-9c58-1f0a1c2d3e4f'
  for (const [call, before] of [[first, undefined], [second, first], [second, undefined], [second, ofEarlierRelease]] as const) {
    t.ok(precedes(call, before))
    t.notOk(precedes(before, call))
  }
  t.ok(precedes(ofEarlierRelease, undefined))
  t.not(precedes(second, atOnce), precedes(atOnce, second), 'two that came at once')
  t.notOk(precedes(first, first))
  const [began, resumed] = [tagsOf('a'), tagsOf('a', first)].map(tags => ({ ...newPublication('me', { kind: 'json', payload: Buffer.from('') }), tags }))
  t.strictSame([resumedBy(began!), resumedBy(resumed!)], [undefined, first])
})
