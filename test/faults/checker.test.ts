import t from 'tap'
import { check } from './checker.ts'
import type { Acknowledged, Entry } from './checker.ts'

const acked = (numbers: number[], epoch = 'e'): Acknowledged[] => numbers.map(number => ({ publisher: 'a', number, offset: number, epoch }))
const subscribed = (offset: number, epoch = 'e'): Entry => ({ kind: 'subscribed', recovered: false, offset, epoch, acked: 0 })
const recovered = (offset: number, acked: number): Entry => ({ kind: 'subscribed', recovered: true, offset, epoch: 'e', acked })
const got = (...numbers: number[]): Entry[] => numbers.map(number => ({ kind: 'publication', publisher: 'a', number, offset: number }))

const cases: Array<[name: string, acknowledged: Acknowledged[], log: Entry[], expected: object]> = [
  ['all arrived', acked([1, 2, 3]), [subscribed(0), ...got(1, 2, 3)], { delivered: 3, lost: 0, told: 0 }],
  ['what came before the client counts for nothing', acked([1, 2, 3]), [subscribed(2), ...got(3)], { delivered: 1, lost: 0, told: 0 }],
  ['one is missing', acked([1, 2, 3]), [subscribed(0), ...got(1, 3)], { delivered: 2, lost: 1, falselyRecovered: 0 }],
  ['the last one is missing', acked([1, 2]), [subscribed(0), ...got(1)], { lost: 1 }],
  ['nothing arrived', acked([1, 2]), [subscribed(0)], { lost: 2 }],
  ['one is missing, and it was told so', acked([1, 2, 3]), [subscribed(0), ...got(1), subscribed(2), ...got(3)], { lost: 0, told: 1 }],
  ['it was told of one, but another one is missing, too', acked([1, 2, 3, 4]), [subscribed(0), ...got(1), subscribed(2), ...got(4)],
    { lost: 1, told: 1 }],
  ['it was told that nothing is missing', acked([1, 2, 3]), [subscribed(0), ...got(1), recovered(1, 3), ...got(3)],
    { lost: 1, falselyRecovered: 1 }],
  ['it was told so, and got only a part of it', acked([1, 2, 3, 4]), [subscribed(0), recovered(0, 3), ...got(1, 2), ...got(4)],
    { lost: 1, falselyRecovered: 1 }],
  ['one is lost after it was told that nothing is missing', acked([1, 2, 3]), [subscribed(0), ...got(1), recovered(1, 1), ...got(3)],
    { lost: 1, falselyRecovered: 0 }],
  ['a new epoch was told', [...acked([1, 2]), ...acked([3], 'f')], [subscribed(0), ...got(1), subscribed(0, 'f'), ...got(3)], { lost: 0, told: 1 }],
  ['a new epoch was not told', [...acked([1, 2]), ...acked([3], 'f')], [subscribed(0), ...got(1, 2)], { lost: 1, told: 0 }],
  ['an epoch that is over is no excuse for the next', [...acked([1]), ...acked([2], 'f')], [subscribed(0), ...got(1), subscribed(1)], { lost: 1 }],
  ['one came twice', acked([1, 2]), [subscribed(0), ...got(1, 2, 1)], { delivered: 2, twice: 1, disordered: 0 }],
  ['two are the wrong way round', acked([1, 2, 3]), [subscribed(0), ...got(1, 3, 2)], { delivered: 3, disordered: 1, lost: 0 }],
  ['what was not acknowledged may arrive or not', acked([1, 4]), [subscribed(0), ...got(1, 2, 4)], { acked: 2, delivered: 2, lost: 0 }]
]

for (const [name, acknowledged, log, expected] of cases) {
  t.test(`the checker counts: ${name}`, async (t) => {
    t.match(check(acknowledged, [log]), expected)
  })
}
