import t from 'tap'
import { newPublication } from '../../lib/model/publication.ts'
import { joinParts, partOf, tagsOf } from '../../lib/model/stream-part.ts'

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
