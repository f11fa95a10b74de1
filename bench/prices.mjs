// What a month costs, in US dollars. The prices are Google's for us-central1, as dated pages of others had them in June
// and July 2026.

const HOURS = 730
/** Of an instance that is billed as long as it lives, which one with an open WebSocket is. */
const VCPU_SECOND = 0.000_018
const GIB_SECOND = 0.000_002
/** Memorystore for Redis, Basic tier, M1 (up to 4 GiB). */
const REDIS_GIB_HOUR = 0.049
export const REDIS_M1_GIB = 4
/** To the internet: the figure of the guide from 2024. */
const EGRESS_GB = 0.12

/** Instances without the free tier, which is 5 dollars. */
export const instancesPrice = (instances, { vcpu, gib }) => instances * HOURS * 3_600 * (vcpu * VCPU_SECOND + gib * GIB_SECOND)

/** undefined where it is larger than the tier whose price is known. */
export const redisPrice = gib => gib <= REDIS_M1_GIB ? Math.max(1, Math.ceil(gib)) * HOURS * REDIS_GIB_HOUR : undefined

export const egressPrice = bytesPerSecond => bytesPerSecond * HOURS * 3_600 / 1e9 * EGRESS_GB
