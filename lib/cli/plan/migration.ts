import { LARGE, SMALL } from './decision.ts'
import { scaled } from './input.ts'
import type { Input } from './input.ts'
import { makePlatforms } from './platforms.ts'
import type { Prices } from './prices.ts'

export interface Stage {
  /** `up to 10,000 connections`. */
  name: string
  /** Connections that the figures are for. */
  connections: number
  /** Whether this app is here. */
  here: boolean
  what: string
  cloudRun: { instances: number, month: number }
  gke: { pods: number, nodes: number, month: number }
}

/** Above what the guide names, figures are for so many, or for the app's own number. */
const ABOVE = 100_000

export function migrationPath (input: Input, prices: Prices): Stage[] {
  const { connections } = input
  const stages = [
    {
      name: 'up to 10,000',
      connections: SMALL,
      here: connections <= SMALL,
      what: 'Cloud Run as deployed, with a scaling target of 0.9. Watch the bill, and how full the instances are.'
    },
    {
      name: '10,000 to 50,000',
      connections: LARGE,
      here: connections > SMALL && connections <= LARGE,
      what: 'Redis sized for the peak, and fewer log entries. Try GKE with a small share of the clients.'
    },
    {
      name: 'above 50,000',
      connections: Math.max(ABOVE, connections),
      here: connections > LARGE,
      what: 'GKE beside Cloud Run on the same Redis. Then move clients by DNS or load balancer weights. Clients on both platforms share channels all the time.'
    }
  ]
  return stages.map(stage => ({ ...stage, ...figures(scaled(input, stage.connections), prices) }))
}

function figures (input: Input, prices: Prices): Pick<Stage, 'cloudRun' | 'gke'> {
  const platforms = makePlatforms(input, prices)
  const run = platforms.find(({ id }) => id === 'cloud-run')!
  const gke = platforms.find(({ id }) => id === 'gke')!
  return {
    cloudRun: { instances: run.instances.peak, month: run.month },
    gke: { pods: gke.instances.peak, nodes: gke.nodes!, month: gke.month }
  }
}
