import { runScript } from './script-runner.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import { countInWindow } from './scripts.ts'

interface Count {
  /** Upgrades in the current window. */
  current: number
  /** Milliseconds that are left of the window. */
  ttl: number
}
type Counted = (error: Error | null, result?: Count) => void

/** The store that @fastify/rate-limit expects, as a class. */
export type RateLimitStore = new () => {
  incr (address: string, callback: Counted, timeWindow: number): void
  child (): InstanceType<RateLimitStore>
}

/** Creates a store on node-redis. The Redis store of @fastify/rate-limit needs ioredis. */
export function createRateLimitStore (commands: RedisCommands, keys: RedisKeys): RateLimitStore {
  return class RedisRateLimitStore {
    incr (address: string, callback: Counted, timeWindow: number): void {
      runScript(commands, countInWindow, [keys.rateLimit(address)], [String(timeWindow)]).then(reply => {
        const [current, ttl] = reply as [number, number]
        callback(null, { current, ttl })
      }, callback)
    }

    /** Returns the same store for every route: all our routes share one count. */
    child (): this { return this }
  }
}
