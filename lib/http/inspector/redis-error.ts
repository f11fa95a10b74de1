/** Codes of a Redis that is down, does not answer or refuses. */
const REDIS_ERRORS: ReadonlySet<unknown> = new Set([
  'FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_NO_ANSWER', 'FST_CRWS_REDIS_REFUSED'
])

/** What the page shows of an error of Redis. */
export interface RedisError {
  readonly code: string
  readonly message: string
}

/** Takes an error of Redis apart. Any other is a bug, and is thrown again. */
export function redisError (error: unknown): RedisError {
  const { code = '', message } = error as Error & { code?: string }
  if (!REDIS_ERRORS.has(code)) throw error
  return { code, message }
}
