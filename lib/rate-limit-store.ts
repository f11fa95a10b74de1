import { normalizeIP } from '@fastify/rate-limit'
import type { FastifyRequest } from 'fastify'
import { runScript } from './redis-commands.ts'
import type { RedisCommands } from './redis-commands.ts'
import type { RedisKeys } from './redis-keys.ts'
import { countInWindow } from './redis-scripts.ts'

interface Count { current: number, ttl: number }
type Counted = (error: Error | null, result?: Count) => void

/** What @fastify/rate-limit asks of a store. */
export type RateLimitStore = new () => {
  incr (address: string, callback: Counted, timeWindow: number): void
  child (): InstanceType<RateLimitStore>
}

/** On node-redis; @fastify/rate-limit's own Redis store needs ioredis. */
export function createRateLimitStore (commands: RedisCommands, keys: RedisKeys): RateLimitStore {
  return class RedisRateLimitStore {
    incr (address: string, callback: Counted, timeWindow: number): void {
      runScript(commands, countInWindow, [keys.rateLimit(address)], [String(timeWindow)]).then(reply => {
        const [current, ttl] = reply as [number, number]
        callback(null, { current, ttl })
      }, callback)
    }

    /** All our routes count together. */
    child (): this { return this }
  }
}

/**
 * Cloud Run's front end appends the address of its peer to X-Forwarded-For, so that the last entry can not be forged
 * (docs.cloud.google.com/load-balancing/docs/https#x-forwarded-for_header). With a load balancer in front, or another proxy,
 * the host sets Fastify's trustProxy, which decides then.
 */
export function clientAddress (request: FastifyRequest): string {
  const onCloudRun = process.env.K_SERVICE !== undefined
  const forwarded = request.headers['x-forwarded-for']
  const trusted = onCloudRun && forwarded !== undefined && request.ips === undefined
  const last = trusted ? String(forwarded).split(',').at(-1)?.trim() : undefined
  // An IPv6 client has a whole /64 of addresses.
  return normalizeIP(last || request.ip || 'unknown')
}
