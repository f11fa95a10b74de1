// Fleets that the simulator does not have: nobody restarts, an instance is minutes old, instances never live long,
// clients post over HTTP.
import t from 'tap'
import { incidentsOf } from '../../bench/incidents.mjs'
import type { Policy } from '../../bench/incidents.mjs'
import { PromQL } from '../../bench/promql.mjs'
import type { Series } from '../../bench/promql.mjs'
import { rendered } from '../helpers/alerts.ts'

const MINUTE = 60_000
const metrics = { job: 'chat', cluster: '__run__', location: 'europe-west1' }
const google = { monitored_resource: 'cloud_run_revision', service_name: 'chat', location: 'europe-west1' }
type Fleet = Map<string, Series[]>

type Points = Array<[ms: number, value: number]>

function add (fleet: Fleet, name: string, labels: Record<string, string>, points: Points, more: Partial<Series> = {}) {
  const delay = more.isDelta ? 150_000 : 1_500
  const times = points.map(([time]) => time)
  const series = { labels, times, values: points.map(([, value]) => value), arrivals: times.map(time => time + delay), ...more }
  fleet.set(name, [...fleet.get(name) ?? [], series])
}

/** An instance that pushes every minute from `from` to `to`, with seconds of downtime so far. */
function addInstance (fleet: Fleet, instance: string, from: number, to: number, downtime: (ms: number) => number = () => 0) {
  const times = Array.from({ length: Math.floor((to - from) / MINUTE) + 1 }, (_, i) => from + i * MINUTE)
  const labels = { ...metrics, instance }
  add(fleet, 'websocket.server.connection.opened', { ...labels, 'websocket.protocol': 'json' }, times.map(time => [time, time / MINUTE * 20]))
  for (const type of ['rate_limit', 'draining', 'capacity', 'auth_failed']) {
    add(fleet, 'websocket.server.connection.rejected', { ...labels, 'error.type': type }, times.map(time => [time, 0]))
  }
  add(fleet, 'websocket.bridge.up', labels, times.map(time => [time, downtime(time) > downtime(time - 1_000) ? 0 : 1]))
  add(fleet, 'websocket.bridge.downtime', labels, times.map(time => [time, downtime(time)]))
}

/** Minutes in which a condition of a policy was open. */
function opened (fleet: Fleet, file: string, condition: string, from: number, to: number) {
  const policy = JSON.parse(rendered(`alerts/${file}.json`)) as Policy
  const conditions = policy.conditions.filter(({ displayName }) => displayName === condition)
  t.equal(conditions.length, 1, `${file} has ${condition}`)
  const found = incidentsOf({ ...policy, conditions }, new PromQL(fleet), { from: from * MINUTE, to: to * MINUTE, phase: 7_000 })
  return found.map(({ at, until }) => ({ at: at / MINUTE, until: until / MINUTE }))
}

t.test('a service of which no instance is left is CRITICAL within five minutes, for as long as it lasts', async (t) => {
  const fleet: Fleet = new Map()
  for (let i = 0; i < 10; i++) addInstance(fleet, `i${i}`, i * 5_000, 90 * MINUTE)
  const refused = Array.from({ length: 90 }, (_, i) => [(91 + i) * MINUTE, 200] as [number, number])
  add(fleet, 'run_googleapis_com:request_count', { ...google, response_code: '503', response_code_class: '5xx' }, refused, { isDelta: true })
  for (const file of ['budget-fast', 'budget-slow']) {
    const [incident, ...others] = opened(fleet, file, 'Connections are refused', 20, 180)
    t.ok(incident !== undefined && incident.at < 95 && incident.until > 178, file)
    t.strictSame(others, [])
  }
})

t.test('a short failover pages nobody while the only instance is minutes old', async (t) => {
  for (const seconds of [10, 15, 20, 30]) {
    for (const age of [1, 2, 3, 4]) {
      const fleet: Fleet = new Map()
      const born = 100 * MINUTE
      const away = born + age * MINUTE + 5_000
      addInstance(fleet, 'i', born + 1_000, born + 40 * MINUTE, ms => Math.min(Math.max(0, (ms - away) / 1_000), seconds))
      t.strictSame(opened(fleet, 'budget-fast', 'Time without Redis', 90, 140), [], `${seconds} s at ${age} min`)
      t.strictSame(opened(fleet, 'bridge-down', 'Bridge down', 90, 140), [], `${seconds} s at ${age} min`)
    }
  }
})

t.test('posts over HTTP that instances reject page nobody, as connections are what counts', async (t) => {
  // 1,000 clients over HTTP post every ten seconds, four of five posts through Redis. At 60 min it is away for half a
  // minute. From 100 min on somebody invents sessions. Nobody is refused a connection.
  const posts: Record<string, { code: string, perMinute: (minute: number) => number }> = {
    post_unanswered: { code: '503', perMinute: minute => minute === 60 ? 2_400 : 0 },
    post_limit: { code: '429', perMinute: minute => minute >= 100 && minute < 120 ? 300 : 0 }
  }
  const conditions = [
    ['front-end', '5xx without an instance'], ['front-end', '429 without an instance'], ['rejections', 'Too many rejections'],
    ['budget-fast', 'Connections are refused'], ['budget-slow', 'Connections are refused']
  ] as const
  const paged = (fleet: Fleet) => conditions.filter(([file, condition]) => opened(fleet, file, condition, 20, 160).length > 0)
  const fleet: Fleet = new Map()
  const minutes = Array.from({ length: 161 }, (_, i) => i)
  for (let i = 0; i < 10; i++) addInstance(fleet, `i${i}`, i * 5_000, 160 * MINUTE)
  for (const { code, perMinute } of Object.values(posts)) {
    const labels = { ...google, response_code: code, response_code_class: `${code[0]}xx` }
    add(fleet, 'run_googleapis_com:request_count', labels, minutes.map(minute => [minute * MINUTE, perMinute(minute)]), { isDelta: true })
  }
  t.strictSame(paged(fleet).map(([file]) => file), ['front-end', 'front-end', 'budget-fast', 'budget-slow'], 'if no instance counted them')
  for (const [type, { perMinute }] of Object.entries(posts)) {
    for (let i = 0; i < 10; i++) {
      let sum = 0
      const points = minutes.map((minute): [number, number] => {
        sum += perMinute(minute) / 10
        return [minute * MINUTE + i * 5_000, sum]
      })
      add(fleet, 'websocket.server.connection.rejected', { ...metrics, instance: `i${i}`, 'error.type': type }, points)
    }
  }
  t.strictSame(paged(fleet), [])
})

t.test('instances that are replaced again and again without Redis are one incident', async (t) => {
  for (const life of [120, 180]) {
    for (const slots of [1, 5]) {
      const fleet: Fleet = new Map()
      for (let slot = 0; slot < slots; slot++) {
        for (let born = 60 * MINUTE + slot * 13_000; born < 120 * MINUTE; born += life * 1_000) {
          addInstance(fleet, `${slot}-${born}`, born + 2_000, born + life * 1_000 - 1_000, ms => (ms - born) / 1_000)
        }
      }
      const incidents = opened(fleet, 'bridge-down', 'Bridge down', 50, 125)
      t.equal(incidents.length, 1, `${slots} of ${life} s`)
      t.ok(incidents[0]!.at < 65 && incidents[0]!.until > 120)
    }
  }
})

t.test('the only instance tells of what it missed, though no other has ever delivered to it', async (t) => {
  const fleet: Fleet = new Map()
  addInstance(fleet, 'only', 0, 90 * MINUTE)
  const lost: Points = Array.from({ length: 91 }, (_, i) => [i * MINUTE, Math.max(0, i - 60) * 300])
  add(fleet, 'websocket.server.publications.missed', { ...metrics, instance: 'only' }, lost)
  for (const [file, condition] of [['publications-missed', 'Many publications missed'], ['budget-fast', 'Deliveries are late or lost']] as const) {
    const [incident, ...others] = opened(fleet, file, condition, 20, 90)
    t.ok(incident !== undefined && incident.at > 60 && incident.at < 70, `${file}: ${incident?.at}`)
    t.strictSame(others, [])
  }
})
