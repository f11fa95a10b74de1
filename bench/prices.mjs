// What a month costs, in US dollars, in us-central1: the prices of the command `plan`.
import { importSource } from './source.mjs'

const { HOURS, Prices } = await importSource('lib/cli/plan/prices.ts')
const plan = await importSource('lib/cli/plan/parts.ts')

const prices = new Prices()
const GIB = 1_073_741_824
/** Memorystore for Redis, Basic tier, M1. */
export const REDIS_M1_GIB = 4

/** Instances without the free tier, which is 5 dollars. */
export const instancesPrice = (instances, { vcpu, gib }) => {
  const seconds = instances * HOURS * 3_600
  return prices.times('runVcpuSecond', seconds * vcpu) + prices.times('runGibSecond', seconds * gib)
}

/** undefined where it is larger than the tier whose price is known. */
export const redisPrice = gib => gib <= REDIS_M1_GIB ? prices.times('redisBasicGibHour', Math.max(1, Math.ceil(gib)) * HOURS) : undefined

export const egressPrice = bytesPerSecond => plan.egressPrice(bytesPerSecond * HOURS * 3_600 / GIB, prices)
