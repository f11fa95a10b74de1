import type { ChannelsOptions } from './channel-options.ts'
import { plainObject } from './checks.ts'
import { invalidOption, Problems, unknownOption } from './problems.ts'
import type { RedisOption } from './redis-source.ts'
import { resolveOptions } from './resolve.ts'
import type { ResolvedOptions } from './resolve.ts'

/** Takes log entries: pino, `app.log`, `request.log` or `console`. */
export interface PublisherLogger {
  info (fields: object, message: string): void
  warn (fields: object, message: string): void
  error (fields: object, message: string): void
}

/** Options of `createPublisher`. */
export interface PublisherOptions {
  /**
   * The Redis of your app: a URL, node-redis client options, cluster options (`{ rootNodes }`), Sentinel options
   * (`{ name, sentinelRootNodes }`), or a client of any of these kinds. A client is duplicated and never used or
   * closed. Tests publish to apps of the same process with `sharedMemory()`.
   * @default env REDIS_URL, else REDISHOST and REDISPORT, as for the plugin
   */
  redis?: RedisOption | undefined
  /**
   * The `keyPrefix` of your app.
   * @default 'ws'
   */
  keyPrefix?: string | undefined
  /**
   * The rules of your app. Only `history` and `presence` have an effect here. They have to be the same as in the app:
   * without `history` the publications are not kept, and clients cannot recover across them.
   * @default {}
   */
  channels?: ChannelsOptions | undefined
  /**
   * Where log entries go: when Redis goes down or is up again, a call has failed, or publications are lost.
   * @default undefined (nothing is logged)
   */
  logger?: PublisherLogger | undefined
}

const LEVELS = ['info', 'warn', 'error'] as const
const KNOWN: readonly (keyof PublisherOptions)[] = ['redis', 'keyPrefix', 'channels', 'logger']

/**
 * Checks the options by the checks of the plugin. Anything that a publisher has no option for has the plugin's default.
 * @throws FST_CRWS_UNKNOWN_OPTION, FST_CRWS_INVALID_OPTION
 */
export function resolvePublisherOptions (options: PublisherOptions, env: NodeJS.ProcessEnv = process.env): ResolvedOptions {
  const problems = new Problems()
  const { redis, keyPrefix, channels, logger, ...unknown } = plainObject(options, 'options', 'an object') as PublisherOptions
  for (const name of Object.keys(unknown)) problems.add(unknownOption('', name, KNOWN))
  if (logger !== undefined && !LEVELS.every(level => typeof logger?.[level] === 'function')) problems.add(invalidOption('logger', typeof logger, 'a logger: pino, app.log or console'))
  // The timeout of requests is none of a worker's business.
  const resolved = problems.attempt(() => resolveOptions({ redis, keyPrefix, channels }, { ...env, CLOUD_RUN_TIMEOUT_SECONDS: '' }))
  if (resolved !== undefined && resolved.redis === undefined) problems.add(invalidOption('redis', redis === undefined ? 'nothing' : 'false', NEEDED))
  problems.throwIfAny()
  return resolved!
}

const NEEDED = 'the Redis of your app, here or in the environment (REDIS_URL, or REDISHOST): a publisher reaches the ' +
  'instances of the app through it'
