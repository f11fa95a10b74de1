import t from 'tap'
import { ClientError } from '../../lib/model/client-error.ts'
import { describe, readable } from '../../lib/util/thrown.ts'

const throwing = { get () { throw new Error('trap') } }

t.test('an error that can be looked at stays as it is, and so does a primitive value', async (t) => {
  const domException = AbortSignal.abort().reason
  for (const thrown of [new TypeError('x'), domException, new ClientError(404, 'x'), 'text', 5, null, undefined, Symbol('s')]) {
    t.equal(readable(thrown), thrown)
  }
})

t.test('anything else becomes an error that describes it', async (t) => {
  let looks = 0
  const once = { get () { if (looks++ > 0) throw new Error('later') } }
  const described: Array<[unknown, string]> = [
    [new Proxy({}, throwing), 'what was thrown cannot be read'],
    [Object.create(new Proxy({}, { getPrototypeOf () { throw new Error('trap') } })), 'what was thrown cannot be read'],
    [Object.defineProperty(new Error('x'), 'message', throwing), 'what was thrown cannot be read'],
    [Object.defineProperty(new Error('x'), 'code', throwing), 'x'],
    [Object.defineProperty(new Error('x'), 'code', once), 'x'],
    [Object.assign(new Error('x'), { message: Symbol('m') }), 'Symbol(m)'],
    [Object.assign(new Error('x'), { code: Symbol('c') }), 'x'],
    [Object.assign(new ClientError(404, ''), { message: 5 }), '5'],
    [{ code: 1, details: { a: 1 } }, '{ code: 1, details: [Object] }'],
    [Object.create(null), '[Object: null prototype] {}']
  ]
  for (const [thrown, text] of described) t.strictSame(readable(thrown), new Error(text))
})

t.test('anything has a description', async (t) => {
  const described = [new Error('boom'), { message: 5 }, { code: 1 }, 'text', null, undefined, Symbol('s'), Object.create(null), new Proxy({}, throwing)]
  t.strictSame(described.map(describe), [
    'boom', '5', '{ code: 1 }', 'text', 'null was thrown', 'undefined was thrown', 'Symbol(s) was thrown', '[Object: null prototype] {}',
    'what was thrown cannot be read'
  ])
  t.strictSame(['', 5, new TypeError('')].map(describe), ["'' was thrown", '5 was thrown', 'TypeError without a message'])
})
