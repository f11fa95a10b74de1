import t from 'tap'
import { ClientError } from '../../index.ts'

t.test('a ClientError has a code from 400 to 1999 and a text', async (t) => {
  for (const code of [400, 404, 1999]) {
    const error = new ClientError(code, 'the room is full')
    t.match(error, { name: 'ClientError', code, message: 'the room is full' })
    t.ok(error instanceof Error)
  }
  for (const code of [399, 2000, -1, 400.5, Number.NaN, '404', undefined, null]) {
    t.throws(() => new ClientError(code as number, 'x'), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /ClientError.*from 400 to 1999/ })
  }
})
