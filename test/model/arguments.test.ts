import t from 'tap'
import { checkFields, checkUnixTime } from '../../lib/model/arguments.ts'

t.test('unknown fields are named, each with what was likely meant', async (t) => {
  const known = ['user', 'info']
  t.doesNotThrow(() => checkFields('identity', { user: 'a', info: undefined }, known))
  t.doesNotThrow(() => checkFields('identity', {}, known))
  t.throws(() => checkFields('identity', { inof: 1 }, known), {
    code: 'FST_CRWS_INVALID_ARGUMENT', message: 'Invalid identity: got the unknown field "inof" (did you mean `info`?), expected an object with user, info'
  })
  t.throws(() => checkFields('identity', { userId: 1, user: 'a', banana: 1 }, known), {
    message: 'Invalid identity: got the unknown fields "userId" (did you mean `user`?), "banana", expected an object with user, info'
  })
})

t.test('what is no object is refused', async (t) => {
  for (const value of [null, undefined, 'text', 5, []]) {
    t.throws(() => checkFields('options of publish', value as never, ['tags']), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /expected an object with tags/ })
  }
})

t.test('a Unix time is one in seconds', async (t) => {
  for (const value of [undefined, 0, -1, Date.now() / 1_000, 1e11]) t.doesNotThrow(() => checkUnixTime('expiresAt', value))
  for (const value of ['soon', null, Number.NaN, Infinity, {}]) {
    t.throws(() => checkUnixTime('expiresAt', value), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /expected a Unix time in seconds$/ })
  }
  t.throws(() => checkUnixTime('expiresAt', 1_764_000_000_000), {
    code: 'FST_CRWS_INVALID_ARGUMENT',
    message: 'Invalid expiresAt: got 1764000000000, which looks like milliseconds, expected a Unix time in seconds: divide it by 1000'
  })
})
