import type { RedisClientOptions } from 'redis'
import { IAM_ORIGIN, iamCredentials } from '../../google/credentials.ts'
import type { RedisCredentials } from '../../model/redis-credentials.ts'
import type { RedisSource } from '../../options/redis-source.ts'

const NO_PASSWORD = /^NOAUTH/
const REFUSED = /^(WRONGPASS|ERR invalid password|ERR AUTH|ERR Client sent AUTH)/
/** Besides those: no password or token is to be had, or a certificate is not right. */
const NEEDS_SOMEBODY = /^no (password|Google access token) for Redis|certificate/i

const IAM_ADVICE = 'The service account needs the role roles/memorystore.dbConnectionUser (Memorystore for Redis Cluster: ' +
  'roles/redis.dbConnectionUser), and Redis has to use IAM authentication'

/** Adds the credentials of REDIS_AUTH=iam, which the options know only by name. */
export function withCredentials (source: RedisSource): RedisSource {
  if (!('iam' in source)) return source
  const provider = { credentialsProvider: iamCredentials() }
  return source.kind === 'standalone'
    ? { ...source, options: { ...source.options, ...provider } }
    : { ...source, options: { ...source.options, defaults: { ...source.options.defaults, ...provider } } }
}

/** What an app does about a password that Redis wants, or refuses. */
export class Login {
  readonly #source: RedisSource

  constructor (source: RedisSource) {
    this.#source = source
  }

  /** Adds to the reason of a refusal where the password comes from. The rest stays as it is. */
  explain (reason: string): string {
    const { from, origin } = this.#describe()
    const text = reason.replace(/\.+$/, '')
    if (NO_PASSWORD.test(reason)) {
      const advice = from === undefined
        ? 'Give the option redis a password, or a credentialsProvider: iamCredentials() or fileCredentials()'
        : `Set REDIS_PASSWORD_FILE, or REDIS_AUTH=iam, or put a password into ${from === 'REDIS_URL' ? from : 'REDIS_URL, in place of REDISHOST'}`
      return `${text}. ${advice}`
    }
    if (!REFUSED.test(reason)) return reason
    if (origin !== IAM_ORIGIN) return `${text}. The password was that of ${origin}. Is it the current password of Redis?`
    return `${text}. The password was ${origin} (${from === undefined ? 'iamCredentials()' : 'REDIS_AUTH=iam'}), fetched for this attempt. ${IAM_ADVICE}`
  }

  #describe () {
    const source = this.#source
    const from = 'from' in source ? source.from : undefined
    const { origin = from ?? 'the option redis' } = (optionsOf(source)?.credentialsProvider ?? {}) as Partial<RedisCredentials>
    return { from, origin }
  }
}

/** True if a connection will not come about before somebody has changed something. */
export function needsSomebody (reason: string): boolean {
  return [NO_PASSWORD, REFUSED, NEEDS_SOMEBODY].some(pattern => pattern.test(reason))
}

function optionsOf (source: RedisSource): RedisClientOptions | undefined {
  switch (source.kind) {
    case 'standalone': return source.options
    case 'cluster': return source.options.defaults as RedisClientOptions | undefined
    case 'sentinel': return source.options.nodeClientOptions as RedisClientOptions | undefined
    case 'client': return (source.client as { options?: RedisClientOptions }).options
    case 'cluster-client': return (source.client as { _options?: { defaults?: RedisClientOptions } })._options?.defaults
  }
}
