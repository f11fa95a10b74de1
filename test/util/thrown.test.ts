import t from 'tap'
import { describe, readable } from '../../lib/util/thrown.ts'

const throwing = { get () { throw new Error('trap') } }

t.test('what can be read stays as it is', async (t) => {
  for (const thrown of [new TypeError('x'), { code: 1 }, 'text', 5, null, undefined, Symbol('s'), Object.create(null)]) {
    t.equal(readable(thrown), thrown)
  }
})

t.test('what cannot be read becomes an error that says so', async (t) => {
  const unreadable = [
    new Proxy({}, throwing),
    Object.defineProperty(new Error('x'), 'message', throwing),
    Object.defineProperty(new Error('x'), 'code', throwing),
    Object.assign(new Error('x'), { message: Symbol('m') })
  ]
  for (const thrown of unreadable) t.match(readable(thrown), new Error('what was thrown cannot be read'))
})

t.test('anything has a description', async (t) => {
  const described = [new Error('boom'), { message: 5 }, 'text', null, undefined, Symbol('s'), Object.create(null), new Proxy({}, throwing)]
  t.strictSame(described.map(describe), [
    'boom', '5', 'text', 'null', 'undefined', 'Symbol(s)', 'what was thrown cannot be read', 'what was thrown cannot be read'
  ])
})
