import type { Test } from 'tap'
import type { Occupancy, OccupancyListener, OccupancySettings } from '../../lib/model/occupancy.ts'
import { until } from '../helpers/until.ts'
import { range } from './broker-contract.ts'

/** One instance: what it holds, and what it was told, such as `+room` for occupied and `-room` for vacated. */
export class Holder implements OccupancyListener {
  readonly occupancy: Occupancy
  readonly told: string[] = []
  readonly errors: unknown[] = []
  readonly held = new Set<string>()

  constructor (open: (listener: OccupancyListener) => Occupancy) {
    this.occupancy = open(this)
  }

  occupied (subject: string): void { this.told.push(`+${subject}`) }
  vacated (subject: string): void { this.told.push(`-${subject}`) }
  failed (error: unknown): void { this.errors.push(error) }

  async enter (...subjects: string[]): Promise<void> {
    for (const subject of subjects) this.held.add(subject)
    await this.occupancy.enter(subjects)
  }

  async leave (...subjects: string[]): Promise<void> {
    for (const subject of subjects) this.held.delete(subject)
    await this.occupancy.leave(subjects)
  }

  /** As often as it takes to look at everything. `now`: so that grace periods of this instance's leaving are over. */
  async sweep (now = Date.now()): Promise<void> {
    for (let i = 0; i < 9; i++) await this.occupancy.sweep(now, () => this.held)
  }
}

/** Opens an instance; those of one `group` share what they hold. */
export type OpenHolder = (t: Test, group: string, settings: OccupancySettings) => Promise<Holder>

/** A grace period that does not end within a test. */
export const LONG = 3_600_000

/** What every occupancy must do. */
export function testOccupancy (t: Test, openHolder: OpenHolder): void {
  let groups = 0
  /** Opens two instances. */
  const openPair = async (t: Test, gracePeriod: number, kind: OccupancySettings['kind'] = 'users') => {
    const group = String(++groups)
    const open = (instance: string) => openHolder(t, group, { kind, instance, gracePeriod })
    return [await open('a'), await open('b'), await open('c')] as const
  }
  /** What all were told, sorted. */
  const told = (...holders: Holder[]) => holders.flatMap(({ told }) => told).toSorted()

  t.test('the first to enter is told, nobody else', async (t) => {
    const [a, b] = await openPair(t, LONG)
    await a.enter('ada', 'bob')
    await b.enter('ada', 'cyd')
    await a.enter('ada')
    t.strictSame(a.told.toSorted(), ['+ada', '+bob'])
    t.strictSame(b.told, ['+cyd'])
  })

  t.test('of many who enter at once one is told', async (t) => {
    const holders = await openPair(t, LONG)
    await Promise.all(range(1, 30).map(i => holders[i % 3]!.enter('ada')))
    t.strictSame(told(...holders), ['+ada'])
  })

  t.test('after the last has left one is told, once the grace period is over', async (t) => {
    const [a, b, c] = await openPair(t, 0)
    await a.enter('ada')
    await b.enter('ada')
    await a.leave('ada')
    await Promise.all([a.sweep(), b.sweep(), c.sweep()])
    t.strictSame(told(a, b, c), ['+ada'], 'b holds it')
    await b.leave('ada')
    await b.leave('ada')
    await until(async () => {
      await Promise.all([a.sweep(), b.sweep(), c.sweep()])
      return told(a, b, c).length > 1
    }, 'it is told')
    await Promise.all([a.sweep(), b.sweep(), c.sweep()])
    t.strictSame(told(a, b, c), ['+ada', '-ada'])
    await c.enter('ada')
    t.strictSame(c.told.at(-1), '+ada', 'and all begins anew')
  })

  t.test('who comes back within the grace period was never away, on any instance', async (t) => {
    const [a, b, c] = await openPair(t, LONG)
    await a.enter('ada')
    for (let i = 0; i < 20; i++) {
      const [from, to] = i % 2 === 0 ? [a, b] : [b, a]
      await from.leave('ada')
      await c.sweep()
      await to.enter('ada')
    }
    await Promise.all([a.sweep(), b.sweep(), c.sweep()])
    t.strictSame(told(a, b, c), ['+ada'])
  })

  t.test('who comes back after the grace period, before anybody has looked, is told as gone and come', async (t) => {
    const [a, b] = await openPair(t, 0)
    await a.enter('ada')
    await a.leave('ada')
    await until(async () => Date.now() > 0 && (await b.enter('ada'), b.told.length > 0), 'b is told')
    t.strictSame(b.told, ['-ada', '+ada'])
    await a.sweep()
    t.strictSame(a.told, ['+ada'])
  })

  t.test('leaving what is not held changes nothing', async (t) => {
    const [a, b] = await openPair(t, 0)
    await a.enter('ada')
    await b.leave('ada', 'bob')
    await Promise.all([a.sweep(), b.sweep()])
    t.strictSame(told(a, b), ['+ada'])
    await a.leave()
    await a.enter()
  })

  t.test('names may be anything, and thousands at once', async (t) => {
    const [a, b] = await openPair(t, 0, 'channels')
    const odd = ['__proto__', '', '0', '-1', 'a b', '{x}', '%', 'Žœ🙂', 'constructor', '\u0001']
    const names = [...odd, ...range(1, 6_000).map(i => `room:${i}`)]
    await a.enter(...names)
    t.strictSame(a.told.toSorted(), names.map(name => `+${name}`).toSorted())
    await b.enter(...names.slice(0, 5))
    await a.leave(...names)
    await until(async () => {
      await Promise.all([a.sweep(Date.now() + 1_000), b.sweep()])
      return told(a, b).length >= names.length * 2 - 5
    }, 'all but five are told', 30_000)
    t.strictSame(told(a, b), [...names.map(name => `+${name}`), ...names.slice(5).map(name => `-${name}`)].toSorted())
  })

  t.test('what is compared again without need tells nothing', async (t) => {
    const [a, b] = await openPair(t, 0)
    await a.enter('ada', 'bob')
    await b.enter('ada')
    for (const one of [a, b]) {
      one.occupancy.recheck()
      await one.sweep()
    }
    t.strictSame(told(a, b), ['+ada', '+bob'])
    t.strictSame([...a.errors, ...b.errors], [])
  })
}
