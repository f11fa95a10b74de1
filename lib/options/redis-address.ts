import type { RedisSource } from './redis-source.ts'

/** Where node-redis connects to without an address. */
const DEFAULT_HOST = 'localhost'
const DEFAULT_PORT = 6379

interface Address {
  readonly url?: string
  readonly socket?: object
}

/** Where Redis is, for people: hosts and ports, without credentials. */
export function redisAddress (source: RedisSource): string {
  switch (source.kind) {
    case 'standalone': return addressOf(source.options as Address)
    case 'cluster': return `${source.options.rootNodes.map(node => addressOf(node as Address)).join(', ')} (cluster)`
    case 'sentinel': return `${source.options.sentinelRootNodes.map(hostAndPort).join(', ')} (Sentinels for ${source.options.name})`
    case 'client': return addressOf((source.client as { options?: Address }).options ?? {})
    case 'cluster-client': return 'the addresses of your cluster client'
  }
}

function addressOf ({ url, socket = {} }: Address): string {
  if (url !== undefined) {
    const { hostname, port } = new URL(url)
    return hostAndPort({ host: hostname || undefined, port: port || undefined })
  }
  const { path } = socket as { path?: string }
  return path ?? hostAndPort(socket)
}

interface HostAndPort {
  readonly host?: string | undefined
  readonly port?: number | string | undefined
}

function hostAndPort ({ host = DEFAULT_HOST, port = DEFAULT_PORT }: HostAndPort): string {
  return `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`
}
