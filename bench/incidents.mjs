// When the conditions of an alert policy would have opened an incident.
import { durationOf } from './promql.mjs'

/**
 * Evaluates as Cloud Monitoring does it: every `evaluationInterval`, and a condition opens an incident when its query
 * has returned a series for as long as its `duration`. `phase` (ms) moves the evaluations.
 */
export function incidentsOf (policy, promql, { from, to, phase = 0 }) {
  return policy.conditions.flatMap(({ displayName, conditionPrometheusQueryLanguage: { query, duration, evaluationInterval } }) => {
    const found = []
    let pending = new Map()
    for (let time = from + phase; time <= to; time += durationOf(evaluationInterval)) {
      const now = new Map()
      for (const { labels, value } of promql.evaluate(query, time)) {
        if (Number.isNaN(value)) throw new Error(`not a number: ${query}`)
        const key = JSON.stringify(labels)
        now.set(key, pending.get(key) ?? { since: time })
        const one = now.get(key)
        if (time - one.since < durationOf(duration)) continue
        if (one.incident === undefined) {
          one.incident = { policy: policy.displayName, condition: displayName, severity: policy.severity, at: time }
          found.push(one.incident)
        }
        one.incident.until = time
      }
      pending = now
    }
    return found
  })
}
