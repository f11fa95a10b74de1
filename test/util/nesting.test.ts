import t from 'tap'
import { isDeeperThan } from '../../lib/util/nesting.ts'

const nested = (levels: number, innermost: unknown) => Array.from({ length: levels }).reduce(inner => [inner], innermost)

t.test('lists and objects are levels, and what is in the innermost one is none', async (t) => {
  for (const [levels, value] of [
    [0, 'text'], [0, null], [1, []], [1, {}], [1, [1]], [1, { a: null }], [2, [[]]], [2, { a: [1] }], [3, nested(3, 1)], [3, nested(2, {})]
  ] as const) {
    t.equal(isDeeperThan(levels, value), false, `${JSON.stringify(value)} has ${levels}`)
    if (levels > 0) t.equal(isDeeperThan(levels - 1, value), true, `${JSON.stringify(value)} has more than ${levels - 1}`)
  }
})

t.test('a circle and a hundred thousand levels do no harm', async (t) => {
  const circle: { self?: unknown } = {}
  circle.self = circle
  t.equal(isDeeperThan(1, circle), false)
  t.equal(isDeeperThan(1_000, nested(100_000, 1)), true)
})
