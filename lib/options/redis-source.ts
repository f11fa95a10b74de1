import type { createSentinel, RedisClientOptions, RedisClusterOptions } from 'redis'
import type { SharedMemory, SharedMemorySource } from '../model/shared-memory.ts'
import { invalid, plainObject } from './checks.ts'

/**
 * Options of node-redis' `createSentinel`. Its pools are not used, so what is said of them, of scans and of reading
 * from replicas has no effect.
 */
export type SentinelOptions = Parameters<typeof createSentinel>[0]

/**
 * A node-redis client, cluster client or Sentinel client of your app's: only its configuration is taken, by
 * `duplicate()`. It is never used or closed.
 */
export interface RedisClientLike {
  duplicate (overrides?: object): unknown
  connect (): Promise<unknown>
}

export type RedisOption = string | RedisClientOptions | RedisClusterOptions | SentinelOptions | RedisClientLike | SharedMemory

/** What the environment says besides the address. */
export interface FromEnvironment {
  /** The variable that has the address. undefined: the source is the option's. */
  readonly from?: 'REDIS_URL' | 'REDISHOST'
  /** REDIS_AUTH=iam. */
  readonly iam?: true
}

/** Where Redis is, in the one form that the rest of the code knows. */
export type RedisSource =
  | { readonly kind: 'standalone', readonly options: RedisClientOptions } & FromEnvironment
  | { readonly kind: 'cluster', readonly options: RedisClusterOptions } & FromEnvironment
  | { readonly kind: 'sentinel', readonly options: SentinelOptions }
  | { readonly kind: 'client', readonly client: RedisClientLike }
  | { readonly kind: 'cluster-client', readonly client: RedisClientLike }

const allowed = "a URL such as 'redis://10.0.0.3:6379', node-redis client options, cluster options ({ rootNodes }), Sentinel options ({ name, sentinelRootNodes }), a node-redis client, or false"

export function redisSource (value: unknown, name: string): RedisSource | SharedMemorySource | undefined {
  if (value === false) return undefined
  if (typeof value === 'string') return { kind: 'standalone', options: { url: checkUrl(value, name) } }
  const given = plainObject(value, name, allowed)
  if (typeof given.duplicate === 'function' && typeof given.connect === 'function') {
    if ('getMasterNode' in given) return redisSource(sentinelOptions(given), name)
    // A cluster client knows which node serves which slot; a standalone one does not.
    return { kind: 'slots' in given ? 'cluster-client' : 'client', client: given as unknown as RedisClientLike }
  }
  if (given.kind === 'memory' && typeof given.join === 'function') return given as unknown as SharedMemorySource
  if ('rootNodes' in given) {
    if (!Array.isArray(given.rootNodes) || given.rootNodes.length === 0) throw invalid(`${name}.rootNodes`, given.rootNodes, 'a list of at least one { url } or { socket }')
    const { credentialsProvider } = (given.defaults ?? {}) as RedisClientOptions
    for (const node of given.rootNodes) checkAddress({ ...(credentialsProvider && { credentialsProvider }), ...node }, `${name}.rootNodes`)
    return { kind: 'cluster', options: given as unknown as RedisClusterOptions }
  }
  if ('sentinelRootNodes' in given) return { kind: 'sentinel', options: checkSentinels(given, name) }
  checkAddress(given, name)
  return { kind: 'standalone', options: given as RedisClientOptions }
}

/**
 * Returns the options of a Sentinel client, which node-redis keeps private. Its `duplicate` hands them to the
 * constructor of the object that it is called for.
 */
function sentinelOptions (client: Record<string, unknown>): unknown {
  class Taker {
    readonly options: unknown
    constructor (options: unknown) { this.options = options }
  }
  const taker = Object.create(Taker.prototype, { _self: { value: client._self } })
  return ((client.duplicate as () => Taker).call(taker)).options
}

function checkSentinels (given: Record<string, unknown>, name: string): SentinelOptions {
  const { name: primary, sentinelRootNodes: nodes, nodeClientOptions } = given
  if (typeof primary !== 'string' || primary === '') throw invalid(`${name}.name`, primary, 'the name that the Sentinels have for the primary')
  const isNode = (node: unknown) => {
    const { host, port } = (node ?? {}) as { host?: unknown, port?: unknown }
    return typeof host === 'string' && Number.isInteger(port)
  }
  if (!Array.isArray(nodes) || nodes.length === 0 || !nodes.every(isNode)) {
    throw invalid(`${name}.sentinelRootNodes`, nodes, 'a list of at least one { host, port }')
  }
  if (typeof nodeClientOptions === 'object' && nodeClientOptions !== null && 'url' in nodeClientOptions) {
    throw invalid(`${name}.nodeClientOptions.url`, nodeClientOptions.url, 'no URL: the Sentinels name the address')
  }
  return given as unknown as SentinelOptions
}

/** node-redis would take an undefined address for its own default, a Redis on this machine. */
function checkAddress (given: Record<string, unknown>, name: string): void {
  const { url, socket, credentialsProvider } = given
  if ('url' in given && hasCredentials(checkUrl(url, `${name}.url`)) && credentialsProvider !== undefined) {
    throw invalid(`${name}.url`, url, 'a URL without user and password: node-redis would take these, and never ask the credentialsProvider')
  }
  if (typeof socket === 'object' && socket !== null && 'host' in socket && socket.host === undefined) {
    throw invalid(`${name}.socket.host`, undefined, 'a host name or an address')
  }
}

function hasCredentials (url: string): boolean {
  const { username, password } = new URL(url)
  return username !== '' || password !== ''
}

export function checkUrl (value: unknown, name: string): string {
  if (typeof value !== 'string' || !URL.canParse(value) || !/^rediss?:$/.test(new URL(value).protocol)) {
    throw invalid(name, value, "a URL that starts with 'redis://' or 'rediss://'")
  }
  try {
    const { username, password } = new URL(value)
    decodeURIComponent(username + password)
  } catch {
    throw invalid(name, value, 'a URL whose password is percent-encoded, as by encodeURIComponent(): it has a % without a code')
  }
  return value
}
