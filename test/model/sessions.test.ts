import t from 'tap'
import { decodeFields, encodeFields } from '../../lib/model/sessions.ts'

t.test('fields are JSON, and undefined removes one', async (t) => {
  const fields = { text: 'ž\n', number: 1.5, nothing: null, list: [{ a: 1 }], ['__proto__']: 'own' }
  const encoded = encodeFields({ ...fields, gone: undefined })
  t.equal(encoded.has('gone'), true)
  t.equal(encoded.get('gone'), undefined)
  encoded.delete('gone')
  const decoded = decodeFields(encoded as Map<string, string>)
  t.strictSame(Object.entries(decoded).toSorted(), Object.entries(fields).toSorted())
  t.equal(Object.getPrototypeOf(decoded), Object.prototype)
})

t.test('a value that JSON can not carry is refused by name', async (t) => {
  const circular: Record<string, unknown> = {}
  circular.self = circular
  t.throws(() => encodeFields({ ok: 1, work: () => {} }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /session field "work": got a function/ })
  t.throws(() => encodeFields({ big: 1n }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /session field "big".*BigInt/ })
  t.throws(() => encodeFields({ circular }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /session field "circular".*circular/ })
})

t.test('fields that are no object are refused', async (t) => {
  for (const fields of [null, [], 'text', 7]) {
    t.throws(() => encodeFields(fields as never), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /session fields/ }, String(fields))
  }
})
