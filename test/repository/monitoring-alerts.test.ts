// Every alert of example/monitoring, over fleets that push every 60 s as real ones do: see bench/fleet.mjs.
import t from 'tap'
import { simulate } from '../../bench/fleet.mjs'
import type { FleetEvent } from '../../bench/fleet.mjs'
import { incidentsOf } from '../../bench/incidents.mjs'
import { PromQL } from '../../bench/promql.mjs'
import { incidents, policyFiles } from '../helpers/alerts.ts'
import type { Case } from '../helpers/alerts.ts'

t.setTimeout(300_000) // seconds where the machine is idle

const SIZES = [1, 10, 100]
const brief = (found: ReturnType<typeof incidents>) => found.map(({ policy, condition, after }) => `${policy} (${condition}) after ${after.toFixed(1)}`)

/** `base` connections per instance at noon, a tenth of that at night. */
const day = (n: number) => (minute: number) => n * 880 * (0.55 + 0.45 * Math.sin((minute / 1_440 - 0.25) * 2 * Math.PI))

t.test('no alert opens on a normal day, with deadlines, deploys, scaling, restarts, a killed instance and late pushes', async (t) => {
  for (const n of SIZES) {
    const events: FleetEvent[] = [
      { at: 200, deploy: true },
      { at: 500, restart: true },
      { at: 700, deploy: true },
      { at: 720, deploy: true },
      { at: 800, kill: n > 1 ? 1 : 0 },
      { at: 900, until: 930, late: 120 }
    ]
    for (const seed of n === 100 ? [1] : [1, 2]) {
      t.strictSame(brief(incidents({ n, seed, minutes: n === 100 ? 540 : 1_440, before: 0, demand: day(n), events })), [], `${n} instances, seed ${seed}`)
    }
  }
})

t.test('no alert opens while the autoscaler fills instances to its target, and follows the demand up and down', async (t) => {
  const sawtooth = (n: number) => (minute: number) => n * 850 * (1 + Math.abs(minute % 120 - 60) / 60)
  for (const n of SIZES) {
    for (const target of [0.6, 0.9]) t.strictSame(brief(incidents({ n, target, minutes: 130, before: 10, demand: sawtooth(n) })), [], `${n}, ${target}`)
  }
})

t.test('no alert opens in a planned failover of Redis of up to 30 s', async (t) => {
  for (const n of SIZES) {
    for (const redis of [5, 10, 20, 30]) {
      const opened: string[] = []
      for (let seed = 0; seed < (n === 100 ? 4 : 24); seed++) {
        opened.push(...brief(incidents({ n, seed, before: 20, minutes: 20, events: [{ at: seed / 7 % 2, redis }] })))
      }
      t.strictSame(opened, [], `${n} instances, ${redis} s`)
    }
  }
})

t.test('a gauge of the last push, which the alert was made of before, pages in such a failover', async (t) => {
  const query = 'min by (location) ({"websocket.bridge.up"}) < 1'
  const condition = { displayName: 'before', conditionPrometheusQueryLanguage: { query, duration: '60s', evaluationInterval: '30s', disableMetricValidation: true } }
  const policy = { displayName: 'before', severity: 'CRITICAL', documentation: { subject: '', content: '' }, userLabels: {}, alertStrategy: { autoClose: '' }, conditions: [condition] }
  const paged = Array.from({ length: 10 }, (_, seed) => {
    const { series, end } = simulate({ seed, minutes: 20, demand: () => 85_000, events: [{ at: 15 + seed / 7 % 1, redis: 20 }] })
    return incidentsOf(policy, new PromQL(series), { from: 600_000, to: end }).length > 0
  })
  t.ok(paged.filter(Boolean).length > 3)
})

/** When a case begins, somewhere between two pushes. */
const at = 0.37
const lasting = (event: Partial<FleetEvent>, until = 60): FleetEvent[] => [{ at, until, ...event }]
const store = { memory: 0.9, cpu: 0.95, evicted: 10 }

/** Condition, after how many minutes at the latest, what happens, and to fleets of which size. */
const cases: Array<[condition: string, within: number, events: FleetEvent[], more?: Partial<Case> & { sizes?: number[] }]> = [
  ['Bridge down', 4, [{ at, redis: 600 }]],
  ['Bridge down', 4, [{ at, redis: 100 }]],
  ['Bridge down', 5, [{ at, redis: 600, share: 0.5 }]],
  ['Bridge down on one instance', 4, [{ at, redis: 600, share: 0.01 }], { sizes: [10, 100] }],
  ['Publications missed again and again', 13, lasting({ missing: 0.001 }), { sizes: [10, 100] }],
  ['Many publications missed', 4, lasting({ missing: 0.05 }, 3), { sizes: [10, 100] }],
  ['Too many rejections', 8, lasting({ refused: { type: 'auth', share: 0.3 } })],
  ['Too many rejections', 8, lasting({ refused: { type: 'auth_failed', share: 0.3 } })],
  ['Connections break', 10, lasting({ breaking: 0.05 })],
  ['The region is full', 60, [], { max: 10, sizes: [10], demand: minute => 5_000 + 90 * Math.max(0, minute) }],
  ['Full instances refuse clients', 60, [], { max: 1, sizes: [1], demand: minute => 500 + 10 * Math.max(0, minute) }],
  ['Delivery is late', 10, lasting({ lag: 0.1 }), { sizes: [10, 100] }],
  ['429 without an instance', 8, lasting({ frontEnd: { code: '429', share: 0.3 } })],
  ['5xx without an instance', 8, lasting({ frontEnd: { code: '500', share: 1 } })],
  ['Metrics stop', 10, lasting({ silent: 1 })],
  ['Metrics stop', 10, lasting({ silent: 0.7 }), { sizes: [100] }],
  ['Entries at ERROR', 8, lasting({ failing: 5 })],
  ['Memory runs out', 12, lasting({ memory: 0.95 })],
  ['Memory', 12, lasting({ store })],
  ['CPU', 12, lasting({ store })],
  ['Evicted keys', 6, lasting({ store: { evicted: 1 } })],
  ['Connections are refused', 8, lasting({ frontEnd: { code: '503', share: 0.2 } })],
  ['Deliveries are late or lost', 60, lasting({ lag: 0.3 }, 80), { sizes: [10, 100], minutes: 90 }],
  ['Deliveries are late or lost', 20, lasting({ missing: 0.9 }), { sizes: [10, 100] }],
  ['Time without Redis', 8, [{ at, redis: 600 }]]
]

for (const [condition, within, events, { sizes = SIZES, ...more } = {}] of cases) {
  t.test(`"${condition}" opens within ${within} minutes of ${JSON.stringify(events[0] ?? 'more clients than there is room for')}`, async (t) => {
    for (const n of sizes) {
      for (const seed of n === 100 ? [1] : [1, 2, 3]) {
        const found = incidents({ n, seed, minutes: within + 5, events, condition, ...more })
        const first = found[0]?.after ?? NaN
        t.ok(first > (events.length > 0 ? at : 0) && first - at <= within, `${n} instances, seed ${seed}: after ${first}`)
      }
    }
  })
}

t.test('both windows of a burn rate have to be over: the alert closes soon after the cause is gone', async (t) => {
  const found = incidents({ n: 10, minutes: 120, events: lasting({ frontEnd: { code: '503', share: 0.5 } }, 15) })
  const fast = found.find(({ policy, condition }) => policy === 'chat: Error budget burns fast' && condition === 'Connections are refused')!
  t.ok(fast.until / 60_000 - 360 < 28, `${fast.until / 60_000 - 360}`)
})

t.test('only the alerts that a case is for are CRITICAL', async (t) => {
  const paging = (events: FleetEvent[]) => {
    const critical = incidents({ n: 10, minutes: 60, events }).filter(({ severity }) => severity === 'CRITICAL')
    return [...new Set(critical.map(({ policy }) => policy))]
  }
  t.strictSame(paging([{ at, redis: 100 }]), ['chat: Bridge down'])
  t.strictSame(paging([{ at, redis: 600, share: 0.01 }]), [])
  t.strictSame(paging(lasting({ breaking: 0.05, failing: 5, memory: 0.95, store })), [])
  t.strictSame(paging(lasting({ refused: { type: 'rate_limit', share: 0.9 } })), [], 'a client in a loop is no outage')
  t.strictSame(paging(lasting({ refused: { type: 'auth', share: 0.9 } })), [])
})

t.test('clients whose credentials cannot be checked were not refused in front of an instance', async (t) => {
  const found = incidents({ n: 10, minutes: 60, events: lasting({ refused: { type: 'auth_failed', share: 0.3 } }) })
  t.strictSame(found.filter(({ policy }) => policy === 'chat: Requests fail before an instance'), [])
  t.ok(found.some(({ condition }) => condition === 'Connections are refused'), 'but it is a fault of the service')
})

t.test('every condition is in a case above', async (t) => {
  // What Cloud Logging and uptime checks report is too plain for a simulation.
  const others = ['Metrics cannot be sent', 'The service does not answer']
  const { readFileSync } = await import('node:fs')
  const { join } = await import('node:path')
  const names = policyFiles().flatMap(file => {
    const policy = JSON.parse(readFileSync(join(import.meta.dirname, '../../example/monitoring', file), 'utf8')) as { conditions: Array<{ displayName: string }> }
    return policy.conditions.map(({ displayName }) => displayName)
  })
  const tried = cases.map(([condition]) => condition)
  t.strictSame([...new Set(names)].filter(name => !tried.includes(name) && !others.includes(name)), [])
})
