import { REDIS_FAILURES } from '../../model/errors.ts'

/** What the page shows of an error of Redis. */
export interface RedisError {
  readonly code: string
  readonly message: string
}

/** Takes an error of Redis apart. Any other is a bug, and is thrown again. */
export function redisError (error: unknown): RedisError {
  const { code = '', message } = error as Error & { code?: string }
  if (!REDIS_FAILURES.has(code)) throw error
  return { code, message }
}
