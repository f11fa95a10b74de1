import t from 'tap'
import { BENCH_TIMEOUT, benchmarks } from '../helpers/bench.ts'

// Most of it is waiting, so it runs beside the other benchmarks.
const { bench } = benchmarks(t)

t.test('the benchmark counts what it costs to tell who comes and goes', { timeout: BENCH_TIMEOUT }, async t => {
  const [none, users, both] = await bench('occupancy')
  t.match(none, /^\| without handlers \| [\d.]+ \| -?0\.0\d \|.*\| 0 \|$/)
  t.match(users, /^\| users \|.*\| 200 \|$/)
  t.match(both, /^\| users and channels \|.*\| 400 \|$/)
})
