import type { Input } from './input.ts'
import type { Platform } from './platforms.ts'

export interface Reason {
  platform: 'cloud-run' | 'gke'
  text: string
}

/** The first reason that applies decides. The others speak for or against it. */
export interface Decision {
  platform: 'cloud-run' | 'gke'
  reasons: Reason[]
}

/** Minutes after which Cloud Run ends every connection. */
const LONGEST = 60
/** Above the first, Cloud Run needs tuning. Above the second, what GKE saves is worth its work. */
export const SMALL = 10_000
export const LARGE = 50_000
/** Mean over peak below which a load is called bursty. */
const BURSTY = 0.5

export function decide (input: Input): Decision {
  const traffic = input.traffic === 'unknown' && input.average <= BURSTY * input.connections ? 'bursty' : input.traffic
  const rules: [boolean, Reason['platform'], string][] = [
    [input.lifetime > LONGEST, 'gke', `Cloud Run ends every connection after ${LONGEST} minutes, and yours have to stay open for ${input.lifetime}.`],
    [input.connections > LARGE, 'gke', `Above ${n(LARGE)} connections, what GKE saves is worth the work of a cluster.`],
    [traffic === 'bursty', 'cloud-run', 'The load is bursty: Cloud Run adds and removes instances by itself, within seconds.'],
    [!input.kubernetes, 'cloud-run', 'Your team does not run Kubernetes. A cluster takes work that this bill does not show.'],
    [traffic === 'steady', 'gke', 'The load is steady, so nodes can be reserved for a year, or run on Spot.'],
    [input.connections <= SMALL, 'cloud-run', `Up to ${n(SMALL)} connections, Cloud Run with the deployed settings is enough.`],
    [input.connections > SMALL && input.connections <= LARGE, 'cloud-run',
      `Between ${n(SMALL)} and ${n(LARGE)} connections, Cloud Run is enough, with Redis sized for the peak.`]
  ]
  const reasons = rules.filter(([applies]) => applies).map(([, platform, text]) => ({ platform, text }))
  return { platform: reasons[0]!.platform, reasons }
}

const n = (number: number) => number.toLocaleString('en-US')

/** Dollars a month that GKE would save against Cloud Run. Negative: it would cost more. */
export function saving (platforms: readonly Platform[]): number | undefined {
  const [run, gke] = (['cloud-run', 'gke'] as const).map(id => platforms.find(platform => platform.id === id)!)
  // Where a part is unknown on one side only, the two sums cannot be compared.
  return run!.unknown.join() === gke!.unknown.join() ? run!.month - gke!.month : undefined
}
