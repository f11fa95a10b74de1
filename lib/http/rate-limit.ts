import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import type { RateLimitOptions } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { RateLimitError } from '../model/errors.ts'
import type { Observer } from '../observability/observer.ts'
import type { RateLimitStore } from '../backends/redis/rate-limit-store.ts'
import { remoteAddress } from '../google/client-address.ts'
import type { TrustedProxies } from '../google/client-address.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import type { Rate } from '../util/token-bucket.ts'

/**
 * Limits upgrades per client address. Where the app has registered @fastify/rate-limit, the route's `config` tells it
 * to do so; elsewhere `hook` does.
 */
export interface Limiter {
  readonly hook: onRequestAsyncHookHandler[]
  readonly config: { readonly rateLimit?: RateLimitOptions }
}

/** Creates the limiter that all our routes share. It is encapsulated, so the app's own routes are not counted. */
export async function createLimiter (
  app: FastifyInstance, { rateLimit: { connections: limit }, trustedProxies }: ResolvedOptions, store: RateLimitStore | undefined,
  observer: Observer
): Promise<Limiter> {
  if (limit === false) return { hook: [], config: {} }
  const options = limiterOptions(limit, trustedProxies, observer)
  if (app.hasDecorator('rateLimit')) return { hook: [], config: { rateLimit: options } }
  const hook: onRequestAsyncHookHandler[] = []
  await app.register(async (scope) => {
    await scope.register(rateLimit, store === undefined ? { global: false } : { global: false, store })
    hook.push(scope.rateLimit(options))
  })
  return { hook, config: {} }
}

function limiterOptions ({ max, timeWindow }: Rate, trustedProxies: TrustedProxies, observer: Observer) {
  return {
    max,
    timeWindow,
    keyGenerator: (request: FastifyRequest) => clientAddress(request, trustedProxies, told => observer.addressUnknown(told)),
    skipOnError: true, // while Redis is down nobody is counted; readiness keeps new connections away
    onExceeded: (request: FastifyRequest, address: string) => {
      observer.rejected(request, 'rate_limit', `too many connections from ${address}`, 429)
    },
    errorResponseBuilder: (_request: unknown, { max, after }: { max: number, after: string }) => new RateLimitError(max, after)
  }
}

/** The key by which upgrades are counted. An IPv6 client has a whole /64 of addresses. */
export function clientAddress (request: FastifyRequest, trustedProxies: TrustedProxies, invalid?: (told: unknown) => void): string {
  return normalizeIP(remoteAddress(request, trustedProxies, invalid) ?? 'unknown')
}
