import type { Series } from './promql.mjs'

export interface FleetEvent {
  /** Minute. */
  at: number
  until?: number
  redis?: number
  share?: number
  deploy?: boolean
  restart?: boolean
  kill?: number
  late?: number
  silent?: number
  lag?: number
  missing?: number
  refused?: { type: string, share: number }
  frontEnd?: { code: string, share: number }
  breaking?: number
  failing?: number
  memory?: number
  store?: { memory?: number, cpu?: number, evicted?: number }
}

export interface FleetOptions {
  seed?: number
  minutes: number
  demand: (minute: number) => number
  events?: FleetEvent[]
  target?: number
  max?: number
  publish?: number
  detailed?: boolean
}

export function randomFrom (seed: number): () => number
export function simulate (options: FleetOptions): { series: Map<string, Series[]>, end: number }
