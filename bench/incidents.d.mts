import type { PromQL } from './promql.mjs'

export interface Condition {
  displayName: string
  conditionPrometheusQueryLanguage: { query: string, duration: string, evaluationInterval: string, disableMetricValidation: boolean }
}

export interface Policy {
  displayName: string
  severity: string
  documentation: { subject: string, content: string }
  userLabels: Record<string, string>
  conditions: Condition[]
  alertStrategy: { autoClose: string }
}

export interface Incident {
  policy: string
  condition: string
  severity: string
  /** ms */
  at: number
  until: number
}

export function incidentsOf (policy: Policy, promql: PromQL, range: { from: number, to: number, phase?: number }): Incident[]
