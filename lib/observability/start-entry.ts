import type { ResolvedOptions } from '../options/resolve.ts'
import { redisAddress } from '../options/redis-address.ts'

/** What the log entry `plugin.started` says: `fields` to programs, `text` to a person. */
export interface StartEntry {
  readonly fields: object
  readonly text: string
}

/** Describes what the plugin does with these options. `prefix`: that of the scope, which starts all routes. */
export function startEntry (options: ResolvedOptions, prefix: string): StartEntry {
  const { path, sdkPath, fallback, healthPath, readyPath, apiPath, inspectPath, redis, allowedOrigins, maxConnections } = options
  const at = (paths: readonly (string | false)[]) => paths.filter(one => one !== false).map(one => prefix + one)
  const webSockets = at([path, sdkPath])
  const streams = at(Object.values(fallback))
  const address = redis === undefined || redis.kind === 'memory' ? undefined : redisAddress(redis)
  const origins = typeof allowedOrigins === 'string' ? allowedOrigins : allowedOrigins.map(String)
  const parts = [
    webSockets.length === 0 ? 'No WebSocket route' : `WebSockets at ${webSockets.join(' and ')}`,
    ...(streams.length === 0 ? [] : [`fallback at ${streams.join(', ')}`]),
    joinedBy(redis, address),
    ...at([apiPath]).map(route => `HTTP API at ${route}`),
    ...(webSockets.length + streams.length === 0 ? [] : [`browsers may connect from ${originsText(origins)}`])
  ]
  const fields = {
    broker: address === undefined ? 'memory' : 'redis',
    ...(address !== undefined && { redis: address }),
    routes: [...webSockets, ...streams, ...at([healthPath, readyPath, apiPath, inspectPath])],
    origins,
    maxConnections
  }
  return { fields, text: parts.join('; ') }
}

function joinedBy (redis: ResolvedOptions['redis'], address: string | undefined): string {
  if (redis?.kind === 'memory') return 'instances are joined in this process, by sharedMemory()'
  return address === undefined ? 'in-process broker: instances are not joined' : `instances are joined by Redis at ${address}`
}

function originsText (origins: string | readonly string[]): string {
  if (origins === '*') return 'anywhere'
  if (origins === 'same-host') return 'the same host'
  return origins.length === 0 ? 'nowhere' : (origins as readonly string[]).join(', ')
}
