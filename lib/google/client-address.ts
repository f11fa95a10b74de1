import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'

/** The option `trustedProxies`. */
export type TrustedProxies = number | ((request: FastifyRequest) => string)

/**
 * The address of the client that a request comes from. Each proxy appends the address of its peer to X-Forwarded-For,
 * Cloud Run's own front end too (docs.cloud.google.com/load-balancing/docs/https#x-forwarded-for_header). So entries
 * count from the end: what stands before those of trusted proxies may be forged. Where the app has set no trusted
 * proxies, but Fastify's trustProxy, that decides.
 */
export function remoteAddress (request: FastifyRequest | IncomingMessage, trustedProxies: TrustedProxies): string | undefined {
  const { socket } = request as { socket?: IncomingMessage['socket'] } // injected requests may have none
  if (trustedProxies === 0 && socket !== undefined && 'ips' in request && request.ips !== undefined) return request.ip
  const address = typeof trustedProxies === 'number' ? forwardedAddress(request, trustedProxies) : tellAddress(request, trustedProxies)
  return isIP(address) === 0 ? socket?.remoteAddress : address
}

/** '' where there are too few entries. */
function forwardedAddress ({ headers }: FastifyRequest | IncomingMessage, trustedProxies: number): string {
  const appended = process.env.K_SERVICE === undefined ? trustedProxies : trustedProxies + 1
  if (appended === 0) return ''
  return String(headers['x-forwarded-for']).split(',').at(-appended)?.trim() ?? ''
}

/** '' where the function of the app fails: it runs for every upgrade, and for log entries. */
function tellAddress (request: FastifyRequest | IncomingMessage, tell: (request: FastifyRequest) => string): string {
  if (!('raw' in request)) return '' // after `app.close()` there is only Node's request
  try {
    return String(tell(request))
  } catch {
    return ''
  }
}
