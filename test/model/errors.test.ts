import t from 'tap'
import { ClientError } from '../../index.ts'

t.test('a ClientError has a code from 400 to 1999, or a close code, and a text', async (t) => {
  for (const code of [400, 404, 1999, 3000, 4999]) {
    const error = new ClientError(code, 'the room is full')
    t.match(error, { name: 'ClientError', code, message: 'the room is full' })
    t.ok(error instanceof Error)
  }
  for (const code of [399, 2000, 2999, 5000, -1, 400.5, Number.NaN, '404', undefined, null]) {
    t.throws(() => new ClientError(code as number, 'x'), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /ClientError.*from 400 to 1999/ })
  }
  t.throws(() => new ClientError(4501.5, 'x'), { code: 'FST_CRWS_INVALID_ARGUMENT' })
})

t.test('any text of a ClientError makes a close reason: a handler may have it from a client', async (t) => {
  const reasons = { '': '', 7: '7.', '{"a":1}': '{"a":1}.', ['é'.repeat(62)]: 'é'.repeat(61), ['1'.repeat(124)]: `${'1'.repeat(122)}.` }
  for (const [text, reason] of Object.entries(reasons)) {
    for (const code of [400, 4501]) t.match(new ClientError(code, text), { message: text, end: { reason } })
  }
})
