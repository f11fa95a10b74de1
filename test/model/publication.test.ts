import t from 'tap'
import { decodePayload, encodePayload, newEpoch } from '../../lib/model/publication.ts'

const base = { time: 1_732_412_345_678, instance: '4fQ7', sequence: 12, offset: 0, epoch: '' }

t.test('data becomes text, JSON or bytes, and comes back as it was', async (t) => {
  const bytes = new Uint8Array([1, 2, 3, 4])
  const cases: Array<[data: unknown, kind: string, payload: string]> = [
    ['ž', 'text', 'ž'], ['', 'text', ''], [{ a: [1] }, 'json', '{"a":[1]}'], [null, 'json', 'null'], [false, 'json', 'false'],
    [new Date(0), 'json', '"1970-01-01T00:00:00.000Z"'], [Buffer.from('x'), 'binary', 'x'], [bytes.subarray(1, 3), 'binary', '\u0002\u0003']
  ]
  for (const [data, kind, payload] of cases) {
    const encoded = encodePayload(data)
    t.equal(encoded.kind, kind)
    t.equal(encoded.payload.toString(), payload)
  }
  for (const data of ['ž', '', { a: [1] }, null, 0, Buffer.from([0, 255])]) t.strictSame(decodePayload({ ...base, ...encodePayload(data) }), data)
})

t.test('data that JSON can not carry is refused with a coded error', async (t) => {
  const circular: Record<string, unknown> = {}
  circular.self = circular
  const odd = { toJSON () { throw 'why' } } // eslint-disable-line no-throw-literal
  for (const data of [undefined, () => {}, Symbol('x'), 1n, circular, odd]) {
    t.throws(() => encodePayload(data), { code: 'FST_CRWS_INVALID_DATA' })
  }
  t.throws(() => encodePayload(undefined), { message: /undefined is not JSON/ })
  t.throws(() => encodePayload(odd), { message: /why/ })
})

t.test('no epoch is like another', async (t) => {
  const epochs = new Set(Array.from({ length: 1_000 }, newEpoch))
  t.equal(epochs.size, 1_000)
  t.strictSame(Array.from(epochs).filter(epoch => !/^[\w-]{8}$/.test(epoch)), [])
})
