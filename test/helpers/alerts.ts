import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { simulate } from '../../bench/fleet.mjs'
import type { FleetEvent, FleetOptions } from '../../bench/fleet.mjs'
import { incidentsOf } from '../../bench/incidents.mjs'
import type { Incident, Policy } from '../../bench/incidents.mjs'
import { PromQL } from '../../bench/promql.mjs'

const folder = join(import.meta.dirname, '../../example/monitoring')
const PLACEHOLDERS = { SERVICE: 'chat', CLUSTER: '__run__', VALKEY: 'chat-valkey', REDIS: 'chat-redis', HOST: 'chat.example' }

/** What apply.sh makes of a file of example/monitoring, but for the runbook. */
export function rendered (file: string): string {
  return Object.entries(PLACEHOLDERS).reduce((text, [name, value]) => text.replaceAll(`\${${name}}`, value), readFileSync(join(folder, file), 'utf8'))
}

export function policyFiles (): string[] {
  return ['alerts', 'optional'].flatMap(name => readdirSync(join(folder, name)).map(file => `${name}/${file}`))
}

const policies = policyFiles().map(file => JSON.parse(rendered(file)) as Policy)

const MINUTE = 60_000
/** Minutes of history that a service has before anything happens: what the longest window of an alert needs. */
export const BEFORE = 360

/** A fleet of `n` instances, with events that happen `at` minutes after the history. */
export interface Case extends Partial<Omit<FleetOptions, 'events' | 'minutes'>> {
  n: number
  /** How long it goes on. */
  minutes: number
  events?: FleetEvent[]
  /** Minutes. */
  before?: number
  /** The one condition that is looked at. */
  condition?: string
}

/** Every incident, and how many minutes after the history it began. */
export function incidents (one: Case): Array<Incident & { after: number }> {
  const { n, minutes, events = [], before = BEFORE, condition, seed = 1, demand = () => n * 850, ...options } = one
  const moved = events.map(event => {
    return { ...event, at: event.at + before, ...event.until !== undefined && { until: event.until + before } }
  })
  const wanted = (minute: number) => demand(minute - before)
  const { series, end } = simulate({ seed, minutes: before + minutes, demand: wanted, events: moved, ...options })
  const promql = new PromQL(series)
  // Evaluations have a phase of their own too.
  const range = { from: Math.max(10, before) * MINUTE, to: end, phase: seed * 7_919 % MINUTE }
  return policies
    .map(policy => ({ ...policy, conditions: policy.conditions.filter(({ displayName }) => [displayName, undefined].includes(condition)) }))
    .flatMap(policy => incidentsOf(policy, promql, range))
    .map(incident => ({ ...incident, after: incident.at / MINUTE - before }))
}
