import t from 'tap'
import { TokenBucket } from '../../lib/util/token-bucket.ts'
import { range } from '../backends/broker-contract.ts'

const limit = { max: 5, timeWindow: 1_000 }

t.test('a burst up to the maximum passes, and no more', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  t.strictSame(range(1, 7).map(() => bucket.take(0)), [true, true, true, true, true, false, false])
})

t.test('it is refilled evenly', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  for (let i = 0; i < 5; i++) bucket.take(0)
  t.equal(bucket.take(199), false)
  t.equal(bucket.take(200), true)
  t.equal(bucket.take(200), false)
  t.strictSame([600, 600, 600].map(now => bucket.take(now)), [true, true, false])
})

t.test('being refused costs nothing', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  for (let i = 0; i < 5; i++) bucket.take(0)
  t.strictSame(range(1, 199).filter(now => bucket.take(now)), [])
  t.equal(bucket.take(201), true)
})

t.test('it never holds more than the maximum', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  t.strictSame(range(1, 6).map(() => bucket.take(1_000_000)), [true, true, true, true, true, false])
})

t.test('at the allowed pace all pass forever', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  t.ok(range(1, 10_000).every(i => bucket.take(i * 200)))
})

t.test('refusals are counted, less what is allowed afterwards', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  for (let i = 0; i < 8; i++) bucket.take(0)
  t.equal(bucket.refused, 3)
  bucket.take(200)
  t.equal(bucket.refused, 2)
  for (let i = 2; i <= 10; i++) bucket.take(i * 200)
  t.equal(bucket.refused, 0)
})

t.test('what is charged afterwards may be owed, up to the maximum, and is paid back', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  bucket.charge(2)
  t.strictSame(range(1, 4).map(() => bucket.take(0)), [true, true, true, false])
  bucket.charge(1_000)
  t.equal(bucket.take(1_199), false)
  t.equal(bucket.take(1_200), true)
})

t.test('a time before that of an earlier take adds nothing and costs no more', async (t) => {
  const bucket = new TokenBucket(limit, 1_000)
  t.strictSame([1_000, 0, 0, 0, 0, 0].map(now => bucket.take(now)), [true, true, true, true, true, false])
  t.equal(bucket.take(1_200), true)
})

t.test('it is full again when all is refilled', async (t) => {
  const bucket = new TokenBucket(limit, 0)
  t.ok(bucket.isFull(0))
  bucket.take(0)
  t.notOk(bucket.isFull(199))
  t.ok(bucket.isFull(200))
})
