import type { Rate } from '../util/token-bucket.ts'
import { duration, fields, integer, orLiteral } from './checks.ts'
import type { Check } from './checks.ts'

const limitParts = 'a value: max and timeWindow go together'
/** Checks a `Limit`. */
export const limit: Check<Rate> = fields({ max: integer(1), timeWindow: duration(1) }, {}, {
  required: { max: limitParts, timeWindow: limitParts }, allowed: 'false or { max, timeWindow }'
})

/** The default of the option `rateLimit`. */
export const rateLimitDefaults: { readonly connections: Rate | false, readonly messages: Rate | false } = Object.freeze({
  connections: Object.freeze({ max: 6_000, timeWindow: 60_000 }),
  messages: Object.freeze({ max: 1_000, timeWindow: 10_000 })
})
const noRateLimit: typeof rateLimitDefaults = Object.freeze({ connections: false, messages: false })
const rateLimits = fields({ connections: orLiteral([false], limit), messages: orLiteral([false], limit) }, rateLimitDefaults)

/** Checks the option `rateLimit`. */
export const rateLimit: Check<typeof rateLimitDefaults> = (value, name) => value === false ? noRateLimit : rateLimits(value, name)
