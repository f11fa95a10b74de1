import t from 'tap'
import { Latency } from '../../lib/cli/load/latency.ts'
import { OpenSamples } from '../../lib/cli/load/open-samples.ts'
import { payload, stampOf } from '../../lib/cli/load/payload.ts'
import { Progress } from '../../lib/cli/load/progress.ts'
import { randomFrom } from '../../lib/cli/load/random.ts'
import { Ranges } from '../../lib/cli/load/ranges.ts'
import { Receiver } from '../../lib/cli/load/receiver.ts'
import type { Report } from '../../lib/cli/load/report.ts'
import { Stream } from '../../lib/cli/load/stream.ts'
import { table } from '../../lib/cli/load/table.ts'
import { Tally } from '../../lib/cli/load/tally.ts'
import { fakeTerminal } from '../helpers/load.ts'

t.test('ranges hold what a set would hold', async (t) => {
  const random = randomFrom(1)
  const below = (max: number) => Math.floor(random() * max)
  for (let round = 0; round < 200; round++) {
    const [ranges, set] = [new Ranges(), new Set<number>()]
    for (let step = 0; step < 60; step++) {
      const number = below(40)
      if (below(2) === 0) {
        if (ranges.delete(number) !== set.delete(number)) t.fail(`delete in round ${round}`)
        continue
      }
      let end = number
      while (end < number + below(6) && !set.has(end)) set.add(end++)
      ranges.add(number, end)
    }
    const content = Array.from(ranges).flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i))
    const [from, to] = [below(40), below(40)]
    const same = JSON.stringify(content) === JSON.stringify(Array.from(set).sort((a, b) => a - b)) &&
      ranges.count(from, to) === Array.from(set).filter(number => number >= from && number < to).length &&
      Array.from({ length: 42 }, (_, i) => ranges.has(i) === set.has(i)).every(Boolean)
    if (!same) t.fail(`round ${round}`)
    const list = Array.from(ranges)
    if (list.some(([start], i) => i > 0 && start <= list[i - 1]![1])) t.fail(`ranges touch in round ${round}`)
  }
  t.pass('200 rounds')
})

t.test('a receiver knows what it misses, what comes twice, and what comes too late', async (t) => {
  const stream = new Stream('load:1', 0)
  const receiver = new Receiver(stream)
  const publish = () => {
    const { settled } = stream
    return [stream.take(), settled] as const
  }
  t.equal(receiver.lost, 0, 'before it has subscribed')
  const early = publish()
  receiver.begin()
  t.equal(receiver.take(...early), 'first', 'sent before, and welcome')
  stream.acknowledged(0)
  const [one, two, three] = [publish(), publish(), publish()]
  t.equal(receiver.lost, 3)
  t.equal(receiver.take(...two), 'first')
  t.equal(receiver.take(...one), 'first', 'both were on their way at once')
  t.equal(receiver.take(...two), 'again')
  t.strictSame([receiver.lost, receiver.overdue], [1, 0])
  for (const number of [1, 2, 3]) stream.acknowledged(number)
  t.equal(stream.waiting, 0)
  const four = publish()
  t.equal(receiver.take(...four), 'first')
  t.strictSame([receiver.lost, receiver.overdue], [1, 1])
  t.equal(receiver.take(...three), 'disordered', 'it was acknowledged before four was sent')
  const [five, six] = [publish(), publish()]
  t.equal(receiver.take(...six), 'first')
  stream.doubted(5)
  t.equal(receiver.lost, 0, 'nobody knows whether it was published')
  t.equal(receiver.take(...five), 'first', 'it was')
  receiver.end()
  stream.acknowledged(publish()[0])
  t.equal(receiver.lost, 0)
})

t.test('a publication has the bytes that were asked for', async (t) => {
  const stamp = { run: '12345678', stream: 9_999, number: 99_999_999, settled: 99_999_999, at: 7_200_000.123 }
  t.equal(payload(stamp, 96).length, 96)
  t.equal(payload(stamp, 5_000).length, 5_000)
  t.strictSame(stampOf(JSON.parse(payload(stamp, 96))), stamp)
  for (const other of [undefined, null, 1, 'text', {}, { load: [] }]) t.equal(stampOf(other), undefined)
})

t.test('the same seed gives the same numbers, from 0 to 1', async (t) => {
  const [one, other, third] = [randomFrom(7), randomFrom(7), randomFrom(8)]
  const numbers = Array.from({ length: 1_000 }, one)
  t.strictSame(numbers, Array.from({ length: 1_000 }, other))
  t.notSame(numbers, Array.from({ length: 1_000 }, third))
  t.ok(numbers.every(number => number >= 0 && number < 1))
  const mean = numbers.reduce((sum, number) => sum + number, 0) / 1_000
  t.ok(mean > 0.45 && mean < 0.55)
})

t.test('percentiles are exact to three digits, and undefined of nothing', async (t) => {
  const latency = new Latency()
  t.strictSame(latency.percentiles, { count: 0, p50: undefined, p90: undefined, p99: undefined, max: undefined })
  for (let ms = 1; ms <= 1_000; ms++) latency.record(ms)
  const { count, p50, p90, p99, max } = latency.percentiles
  t.equal(count, 1_000)
  for (const [value, exact] of [[p50, 500], [p90, 900], [p99, 990], [max, 1_000]] as const) {
    t.ok(Math.abs(value! - exact) <= exact / 500, String(exact))
  }
  latency.record(0)
  latency.record(1e12)
  t.ok(latency.percentile(100)! <= 3_600_000 * 1.001)
  latency.reset()
  t.equal(latency.percentile(50), undefined)
})

t.test('a long run keeps few samples, evenly', async (t) => {
  const samples = new OpenSamples()
  for (let second = 0; second <= 3_600; second++) samples.add(second, second)
  const list = samples.toJSON()
  t.ok(list.length > 60 && list.length <= 120)
  t.equal(new Set(list.slice(1).map(({ second }, i) => second - list[i]!.second)).size, 1)
})

t.test('where lines stay, the progress is one line in ten seconds', async (t) => {
  const terminal = fakeTerminal()
  const progress = new Progress(terminal)
  const tally = new Tally()
  for (let seconds = 0; seconds <= 25; seconds++) {
    tally.sent += 7
    progress.show({ seconds, phase: 'traffic', connections: 1, tally, overdue: 0 })
  }
  progress.end()
  t.match(terminal.written.stderr, /^10 s traffic .*published 8\/s .*p99 - .*\n20 s traffic .*published 7\/s .*\n$/)
})

t.test('the table names reasons, and says when this process was the limit', async (t) => {
  const none = new Latency().percentiles
  const some = { count: 1, p50: 1, p90: 2, p99: 3, max: 4 }
  const report: Report = {
    url: 'ws://a.example/ws',
    protocol: 'sdk',
    startedAt: '2026-11-28T00:00:00.000Z',
    seconds: 5,
    seed: 1,
    interrupted: true,
    ok: false,
    problems: ['one', 'two'],
    connections: {
      asked: 2,
      opened: 1,
      gone: 0,
      reconnects: 3,
      refused: { '429 Too Many': 4, '503 Full': 1 },
      failed: {},
      closed: { '1006 ': 1 },
      connectTime: some,
      awayTime: none,
      open: []
    },
    subscriptions: { asked: 2, recovered: 1, unrecovered: 1, errors: {}, ended: {} },
    publications: { perSecond: 1, sent: 1, acknowledged: 1, unanswered: 0, unsent: 0, errors: {} },
    deliveries: {
      expected: 1,
      received: 1,
      lost: 0,
      duplicated: 0,
      outOfOrder: 1,
      wrongOffsets: 2,
      foreign: 0,
      latency: some,
      recoveredLatency: none
    },
    bytes: { sent: 1e6, received: 2e6 },
    generator: { late: some, saturated: true }
  }
  const text = table(report)
  t.match(text, 'ended early')
  t.match(text, /refused +4 x 429 Too Many, 1 x 503 Full\n/)
  t.match(text, /closed by +1 x 1006\n/)
  t.match(text, /time to connect +p50 1.0 {2}p90 2.0 {2}p99 3.0 {2}max 4.0 ms\n/)
  t.match(text, /out of order +3\n/)
  t.match(text, 'This process was the limit')
  t.match(text, /\nNOT OK: one; two\n$/)
  const plain = table({ ...report, protocol: 'plain', ok: true, generator: { late: none, saturated: false } })
  t.notMatch(plain, /Subscriptions|acknowledged|the limit/)
  t.match(plain, /\nOK\n$/)
})
