import { once } from 'node:events'
import t from 'tap'
import { resolveOptions } from '../../lib/options/resolve.ts'

t.test('prefix is the old name of keyPrefix, and a warning says so once', async (t) => {
  const warnings: Array<Error & { code?: string }> = []
  const collect = (warning: Error) => warnings.push(warning)
  process.on('warning', collect)
  t.teardown(() => process.off('warning', collect))
  const warned = once(process, 'warning')
  t.match(resolveOptions({ keyPrefix: 'a' }, {}), { keyPrefix: 'a' })
  t.match(resolveOptions({ prefix: 'a' }, {}), { keyPrefix: 'a' })
  t.match(resolveOptions({ prefix: 'a', keyPrefix: 'a' }, {}), { keyPrefix: 'a' })
  t.notOk('prefix' in resolveOptions({ prefix: 'a' }, {}))
  await warned
  t.match(warnings, [{ name: 'DeprecationWarning', code: 'FST_CRWS_DEP001', message: /"prefix" is now called "keyPrefix".*scope with that path as its prefix/ }])
  t.equal(warnings.length, 1)
})

t.test('both names with different values are an error', async (t) => {
  t.throws(() => resolveOptions({ prefix: 'a', keyPrefix: 'b' }, {}), {
    code: 'FST_CRWS_INVALID_OPTION', message: 'Invalid option "prefix": got \'a\', expected no value beside a different keyPrefix, which is its new name'
  })
  t.throws(() => resolveOptions({ prefix: 'a', keyPrefix: 'b', maxPayload: 0 }, {}), { message: /^2 options are wrong/ })
})

t.test('a wrong value under the old name is refused as one under the new name is', async (t) => {
  t.throws(() => resolveOptions({ prefix: '{a}' }, {}), { code: 'FST_CRWS_INVALID_OPTION', message: /"prefix": got '\{a\}'/ })
})
