import type { IncomingHttpHeaders } from 'node:http'

/** Fastify's request, or Node's. */
interface Addressed {
  readonly headers: IncomingHttpHeaders
  readonly ip?: string
  readonly ips?: string[] | undefined
  readonly socket: { readonly remoteAddress?: string | undefined }
}

/**
 * Cloud Run's front end appends the address of its peer to X-Forwarded-For, so that the last entry cannot be forged
 * (docs.cloud.google.com/load-balancing/docs/https#x-forwarded-for_header). With a load balancer in front, or another
 * proxy, your app sets Fastify's trustProxy, which decides then.
 */
export function remoteAddress ({ headers, ip, ips, socket }: Addressed): string | undefined {
  const forwarded = headers['x-forwarded-for']
  const trusted = process.env.K_SERVICE !== undefined && forwarded !== undefined && ips === undefined
  const last = trusted ? String(forwarded).split(',').at(-1)?.trim() : undefined
  return last || ip || socket?.remoteAddress
}
