import t from 'tap'
import { decodePublication, encodeAroundSequence, encodePublication } from '../../../lib/backends/redis/wire-format.ts'
import { encodePayload } from '../../../lib/model/publication.ts'
import type { Publication } from '../../../lib/model/publication.ts'

const base = { time: 1_732_412_345_678, instance: '4fQ7', sequence: 12, offset: 0, epoch: '' }

t.test('a publication on Redis is a header line and the untouched payload', async (t) => {
  const publication: Publication = { ...base, ...encodePayload({ text: 'hello' }), tags: { a: 'b' } }
  t.equal(encodePublication(publication).toString(), 'j 1732412345678 4fQ7 12 {"tags":{"a":"b"}}\n{"text":"hello"}')
  t.equal(encodePublication({ ...base, ...encodePayload('hello') }).toString(), 't 1732412345678 4fQ7 12\nhello')
})

t.test('a publication comes back from its bytes', async (t) => {
  const tags = [undefined, {}, { a: 'b\nc', 'ž d': '' }]
  for (const data of ['', '\n\n', 'a b c', { a: '\n' }, Buffer.from([10, 0, 10])]) {
    for (const one of tags) {
      const publication: Publication = { ...base, ...encodePayload(data), offset: 7, epoch: 'e', ...(one && { tags: one }) }
      t.strictSame(decodePublication(encodePublication(publication), 7, 'e'), publication)
    }
  }
})

t.test('line breaks in JSON that somebody has written to Redis begin no message of ours', async (t) => {
  const payloadOf = (bytes: string) => decodePublication(Buffer.from(bytes), 1, 'e')?.payload.toString()
  t.equal(payloadOf('j 1 a 1\n{\r\n"a":\n\n1}\nid: evil'), '{  "a":  1} id: evil')
  t.equal(payloadOf('+ 1 a 0\n{"client":"c",\n"user":"u"}'), '{"client":"c", "user":"u"}')
  t.equal(payloadOf('t 1 a 1\nof text\r\n'), 'of text\r\n')
})

t.test('a trace travels with a publication, and hurts no instance of before there were traces', async (t) => {
  const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const rest: Array<Partial<Publication>> = [{}, { tags: { a: 'b' } }, { publisher: { client: 'c', user: 'ann' } }, { tags: { a: 'b' }, publisher: { client: 'c', user: 'ann' } }]
  for (const one of rest) {
    const publication: Publication = { ...base, ...encodePayload('hello'), ...one, trace, offset: 7, epoch: 'e' }
    const bytes = encodePublication(publication)
    t.strictSame(decodePublication(bytes, 7, 'e'), publication)
    t.strictSame(takenBefore(bytes), Object.keys(one).length === 0 ? { tags: {} } : one)
    t.strictSame(decodePublication(Buffer.from(bytes.toString().replace(`"${trace}"`, '{"a":1}')), 7, 'e')?.trace, undefined)
  }
})

t.test('who is left out travels with a publication, and hurts no instance of before', async (t) => {
  const except = '6f1c1f3e-5d0f-4b5e-9b9f-0b8c1c1f3e5d'
  const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const rest: Array<Partial<Publication>> = [{}, { tags: { a: 'b' } }, { publisher: { client: 'c', user: 'ann' } }, { trace }, { tags: { a: 'b' }, publisher: { client: 'c', user: 'ann' }, trace }]
  for (const one of rest) {
    const publication: Publication = { ...base, ...encodePayload('hello'), ...one, except, offset: 7, epoch: 'e' }
    const bytes = encodePublication(publication)
    t.strictSame(decodePublication(bytes, 7, 'e'), publication)
    const { trace: _, ...known } = one
    t.strictSame(takenBefore(bytes), Object.keys(known).length === 0 ? { tags: {} } : known)
    const [before, after] = encodeAroundSequence(publication)
    t.strictSame(decodePublication(Buffer.concat([before, Buffer.from('3'), after]), 7, 'e'), { ...publication, instance: '4fQ7+', sequence: 3 })
  }
  const bytes = encodePublication({ ...base, ...encodePayload('hello'), except })
  t.equal(bytes.toString(), `t 1732412345678 4fQ7 12 {"tags":{},"except":"${except}"}\nhello`)
  for (const other of ['{"a":1}', '7', 'null', '["x"]']) {
    const decoded = decodePublication(Buffer.from(bytes.toString().replace(`"${except}"`, other)), 7, 'e')
    t.match(decoded, { kind: 'text', except: undefined }, other)
  }
})

/** What those instances read from the header, as they did it. */
function takenBefore (bytes: Buffer): object | undefined {
  const header = bytes.toString('utf8', 0, bytes.indexOf(10))
  const [mark = '', time = '', instance = '', sequence = ''] = header.split(' ', 4)
  const { tags, publisher } = JSON.parse(header.slice(mark.length + time.length + instance.length + sequence.length + 4))
  const given = [tags, publisher].filter(one => one !== undefined)
  if (given.length === 0 || given.some(one => typeof one !== 'object' || one === null)) return undefined
  return { ...(tags && { tags }), ...(publisher && { publisher }) }
}

t.test('bytes in another form are no publication', async (t) => {
  const others = [
    '', '\n', 'no newline', 'j 1 a 1', 'x 1 a 1\n', 'toString 1 a 1\n', 'j\n', 'j 1\n', 'j 1 a\n', 'j 1  1\n', 'j one a 1\n', 'j 1 a one\n', 'j -1 a 1\n', 'j 1 a -1\n',
    'j 1.5 a 1\n', 'j 1 a 99999999999999999999\n', 'j  a 1\n', 'j 1 a 1 \n', 'j 1 a 1 {\n', 'j 1 a 1 null\n', 'j 1 a 1 {}\n', 'j 1 a 1 {"tags":"text"}\n', 'j 1 a 1 {"tags":null}\n',
    'j 1 a 1 {"publisher":{}}\n', 'j 1 a 1 {"publisher":{"client":"c","user":["x"]}}\n', 'j 1 a 1 {"publisher":{"client":1,"user":"u"}}\n', '+ 1 a 0\n', '+ 1 a 0\n{', '- 1 a 0\nnull', '- 1 a 0\n{"client":"c"}'
  ]
  for (const other of others) {
    const decoded = decodePublication(Buffer.from(other), 1, 'e')
    if (other === 'j 1 a 1 \n') t.match(decoded, { instance: 'a', sequence: 1 }, 'an empty extra is none')
    else t.equal(decoded, undefined, JSON.stringify(other))
  }
})
