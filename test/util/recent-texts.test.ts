import t from 'tap'
import { RecentTexts } from '../../lib/util/recent-texts.ts'

t.test('a text is new once a minute', async (t) => {
  const texts = new RecentTexts()
  t.strictSame([0, 1, 59_999, 60_000, 60_001].map(now => texts.isNew('a', now)), [true, false, false, true, false])
  t.ok(texts.isNew('b', 60_001))
})

t.test('a text that is new again says how often it came meanwhile', async (t) => {
  const texts = new RecentTexts()
  t.strictSame([0, 1, 59_999].map(now => texts.take('a', now)), [0, undefined, undefined])
  t.equal(texts.take('b', 60_000), 0)
  t.strictSame([60_001, 60_002, 200_000, 300_000].map(now => texts.take('a', now)), [2, undefined, 1, 0])
})

t.test('a hundred are remembered, and more of them are not new', async (t) => {
  const texts = new RecentTexts()
  for (let i = 0; i < 100; i++) t.ok(texts.isNew(String(i), i))
  t.notOk(texts.isNew('one more', 59_999))
  t.ok(texts.isNew('one more', 60_000))
})
