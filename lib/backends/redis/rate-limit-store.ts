import { runScript } from './script-runner.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import { countInWindow } from './scripts.ts'

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
