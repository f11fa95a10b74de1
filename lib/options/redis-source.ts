import type { RedisClientOptions, RedisClusterOptions } from 'redis'
import { invalid, plainObject } from './checks.ts'

/**
 * A node-redis client or cluster of your app's: only its configuration is taken, by `duplicate()`. It is never used
 * or closed.
 */
export interface RedisClientLike {
  duplicate (overrides?: object): unknown
  connect (): Promise<unknown>
}

export type RedisOption = string | RedisClientOptions | RedisClusterOptions | RedisClientLike

/** Where Redis is, in the one form that the rest of the code knows. */
export type RedisSource =
  | { readonly kind: 'standalone', readonly options: RedisClientOptions }
  | { readonly kind: 'cluster', readonly options: RedisClusterOptions }
  | { readonly kind: 'client', readonly client: RedisClientLike }
  | { readonly kind: 'cluster-client', readonly client: RedisClientLike }

const allowed = "a URL such as 'redis://10.0.0.3:6379', node-redis client options, cluster options ({ rootNodes }), a node-redis client, or false"

export function redisSource (value: unknown, name: string): RedisSource | undefined {
  if (value === false) return undefined
  if (typeof value === 'string') return { kind: 'standalone', options: { url: checkUrl(value, name) } }
  const given = plainObject(value, name, allowed)
  if (typeof given.duplicate === 'function' && typeof given.connect === 'function') {
    // A cluster client knows which node serves which slot; a standalone one does not.
    return { kind: 'slots' in given ? 'cluster-client' : 'client', client: given as unknown as RedisClientLike }
  }
  if ('rootNodes' in given) {
    if (!Array.isArray(given.rootNodes) || given.rootNodes.length === 0) throw invalid(`${name}.rootNodes`, given.rootNodes, 'a list of at least one { url } or { socket }')
    return { kind: 'cluster', options: given as unknown as RedisClusterOptions }
  }
  if (given.url !== undefined) checkUrl(given.url, `${name}.url`)
  return { kind: 'standalone', options: given as RedisClientOptions }
}

/** REDIS_URL, else REDISHOST and REDISPORT as in Google's guides, else none. */
redisSource.fromEnvironment = (env: NodeJS.ProcessEnv): RedisSource | undefined => {
  if (env.REDIS_URL) return redisSource(env.REDIS_URL, 'redis (env REDIS_URL)')
  if (!env.REDISHOST) return undefined
  const port = env.REDISPORT || '6379'
  if (!/^\d+$/.test(port)) throw invalid('redis (env REDISPORT)', port, 'a port number')
  return { kind: 'standalone', options: { socket: { host: env.REDISHOST, port: Number(port) } } }
}

function checkUrl (value: unknown, name: string): string {
  if (typeof value === 'string' && URL.canParse(value) && /^rediss?:$/.test(new URL(value).protocol)) return value
  throw invalid(name, value, "a URL that starts with 'redis://' or 'rediss://'")
}
