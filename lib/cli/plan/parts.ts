import { FREE_LOGS, LOG_BYTES, REQUEST_LOG_BYTES, SAMPLES } from './assumptions.ts'
import { HOURS } from './prices.ts'
import type { PriceName, Prices } from './prices.ts'
import type { Traffic } from './traffic.ts'

/** A part of the monthly bill. undefined: its price is not known. */
export interface Part {
  name: string
  month: number | undefined
}

const SECONDS = HOURS * 3_600
const GIB = 1 << 30
const TIB = 1_024

const gibPerMonth = (bytesPerSecond: number) => bytesPerSecond * SECONDS / GIB

/** What clients are sent: payload and frames. */
export function egress ({ clientBytes }: Traffic, prices: Prices): Part {
  return { name: 'egress', month: egressPrice(gibPerMonth(clientBytes), prices) }
}

export function egressPrice (gib: number, prices: Prices): number | undefined {
  const steps: [PriceName, number, number][] = [['egressFirstTib', 0, TIB], ['egressTo10Tib', TIB, 10 * TIB], ['egressAbove', 10 * TIB, Infinity]]
  return steps.reduce<number | undefined>((total, [name, from, to]) => {
    const part = prices.times(name, Math.max(0, Math.min(gib, to) - from))
    return total === undefined || part === undefined ? undefined : total + part
  }, 0)
}

/** Of each connection: two entries of the plugin, Fastify's for its upgrade, and the platform's for the request. */
export function logs ({ comings }: Traffic, prices: Prices, { requests }: { requests: boolean }): Part {
  const bytes = LOG_BYTES + (requests ? REQUEST_LOG_BYTES : 0)
  return { name: 'logs', month: prices.times('logGib', Math.max(0, gibPerMonth(comings * bytes) - FREE_LOGS)) }
}

/** One export a minute. */
export function metrics (instances: number, prices: Prices): Part {
  return { name: 'metrics', month: prices.times('metricMillion', instances * SAMPLES * HOURS * 60 / 1e6) }
}

/** One forwarding rule, and what passes. */
export function loadBalancer ({ clientBytes }: Traffic, prices: Prices): Part {
  const rule = prices.times('balancerHour', HOURS)
  const data = prices.times('balancerGib', gibPerMonth(clientBytes))
  return { name: 'load balancer', month: rule === undefined || data === undefined ? undefined : rule + data }
}

export function fixed (prices: Prices): Part[] {
  return Object.entries(prices.fixed).map(([name, month]) => ({ name, month }))
}
