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
  for (const reason of ['x'.repeat(124), '{"a":1}']) {
    t.throws(() => new ClientError(4501, reason), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /close reason/ })
    t.equal(new ClientError(400, reason).message, reason, 'an error reply may be longer')
  }
  t.throws(() => new ClientError(4501.5, 'x'), { code: 'FST_CRWS_INVALID_ARGUMENT' })
})
