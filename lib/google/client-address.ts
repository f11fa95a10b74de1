import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { isPromise } from '../util/task-queue.ts'
import { readable } from '../util/thrown.ts'

/** The option `trustedProxies`. */
export type TrustedProxies = number | ((request: FastifyRequest) => string)

/**
 * The address of the client that a request comes from. Each proxy appends the address of its peer to X-Forwarded-For,
 * Cloud Run's own front end too (docs.cloud.google.com/load-balancing/docs/https#x-forwarded-for_header). So entries
 * count from the end: what stands before those of trusted proxies may be forged. Where the app has set no trusted
 * proxies, but Fastify's trustProxy, that decides. `invalid` is called with what a function of the app has returned or
 * thrown in place of an address.
 */
export function remoteAddress (
  request: FastifyRequest | IncomingMessage, trustedProxies: TrustedProxies, invalid?: (told: unknown) => void
): string | undefined {
  const { socket } = request as { socket?: IncomingMessage['socket'] } // injected requests may have none
  if (trustedProxies === 0 && socket !== undefined && 'ips' in request && request.ips !== undefined) return request.ip
  if (typeof trustedProxies === 'number') return addressOr(forwardedAddress(request, trustedProxies), socket?.remoteAddress)
  if (!('raw' in request)) return socket?.remoteAddress // after `app.close()` there is only Node's request
  const told = tellAddress(request, trustedProxies)
  if (typeof told === 'string' && isIP(told) !== 0) return told
  invalid?.(told)
  return socket?.remoteAddress
}

function addressOr (address: string, otherwise: string | undefined): string | undefined {
  return isIP(address) === 0 ? otherwise : address
}

/** '' where there are too few entries. */
function forwardedAddress ({ headers }: FastifyRequest | IncomingMessage, trustedProxies: number): string {
  const appended = process.env.K_SERVICE === undefined ? trustedProxies : trustedProxies + 1
  if (appended === 0) return ''
  return String(headers['x-forwarded-for']).split(',').at(-appended)?.trim() ?? ''
}

/** What the function of the app returns or throws. It runs for every upgrade, and for log entries. */
function tellAddress (request: FastifyRequest, tell: (request: FastifyRequest) => unknown): unknown {
  try {
    const told = tell(request)
    if (isPromise(told)) told.then(undefined, () => {}) // a rejection that nobody handles would end the process
    return told
  } catch (error) {
    return readable(error)
  }
}
