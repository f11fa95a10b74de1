import type { RedisClientOptions, RedisClusterOptions } from 'redis'
import { invalid } from './checks.ts'
import { invalidOption, Problems } from './problems.ts'
import { DEFAULT_USER, passwordFile, readCertificates, readNamedFile } from './redis-files.ts'
import { checkRedisIdentity } from './redis-identity.ts'
import { checkUrl } from './redis-source.ts'
import type { RedisSource } from './redis-source.ts'

const nameOf = (variable: string) => `redis (env ${variable})`

/** Settings that have no meaning without an address. */
const SETTINGS = ['REDIS_CA_FILE', 'REDIS_PASSWORD_FILE', 'REDIS_AUTH', 'REDIS_CLUSTER'] as const
const ADDRESS = 'an address as well, in REDIS_URL or REDISHOST: without an address the app does not use Redis'

interface Address {
  readonly from: 'REDIS_URL' | 'REDISHOST'
  readonly host: string
  readonly port: number
  readonly tls: boolean
  readonly username: string
  readonly password: string
  readonly database: number
}

/** Stands for one that is wrong. No other setting contradicts it. */
const UNKNOWN_ADDRESS: Address = { from: 'REDISHOST', host: '', port: 0, tls: true, username: '', password: '', database: 0 }

/**
 * Redis as the environment describes it: REDIS_URL, else REDISHOST and REDISPORT as in Google's guides, else none; with
 * REDIS_CA_FILE, REDIS_PASSWORD_FILE, REDIS_AUTH and REDIS_CLUSTER.
 * @throws FST_CRWS_INVALID_OPTION that names all that is wrong
 */
export function redisFromEnvironment (env: NodeJS.ProcessEnv): RedisSource | undefined {
  const problems = new Problems()
  const named = env.REDIS_URL || env.REDISHOST
  const given = problems.attempt(() => addressOf(env))
  // A wrong address does not hide what else is wrong.
  const address = given ?? (named ? UNKNOWN_ADDRESS : undefined)
  if (address === undefined) {
    for (const variable of SETTINGS) if (env[variable] && env[variable] !== 'false') problems.add(invalidOption(nameOf(variable), 'a value', ADDRESS))
    problems.throwIfAny()
    return undefined
  }
  const ca = problems.attempt(() => certificates(env, address))
  const login = problems.attempt(() => loginOf(env, address))
  const cluster = problems.attempt(() => isCluster(env, address))
  problems.throwIfAny()
  const tls = (ca !== undefined || address.tls) && { tls: true as const, ...(ca && { ca, checkServerIdentity: checkRedisIdentity }) }
  const { from, host, port, database } = address
  const { iam, ...credentials } = login!
  const source = { from, ...(iam && { iam }) }
  if (cluster) {
    // node-redis uses the URL of a root node for that connection alone, and these for all.
    const defaults = { ...credentials, ...(tls && { socket: tls }) } as NonNullable<RedisClusterOptions['defaults']>
    return { kind: 'cluster', options: { rootNodes: [{ socket: { host, port } }], defaults }, ...source }
  }
  const options = { ...credentials, ...(database !== 0 && { database }), socket: { host, port, ...tls } }
  return { kind: 'standalone', options: options as RedisClientOptions, ...source }
}

function addressOf (env: NodeJS.ProcessEnv): Address | undefined {
  if (env.REDIS_URL) return fromUrl(env.REDIS_URL)
  if (!env.REDISHOST) return undefined
  const port = env.REDISPORT || '6379'
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) throw invalid(nameOf('REDISPORT'), port, 'a port number, 1 to 65535')
  return { from: 'REDISHOST', host: env.REDISHOST, port: Number(port), tls: false, username: '', password: '', database: 0 }
}

function fromUrl (value: string): Address {
  const name = nameOf('REDIS_URL')
  const { protocol, hostname, port, username, password, pathname } = new URL(checkUrl(value, name))
  const database = Number(pathname.slice(1))
  if (!/^\/?\d*$/.test(pathname)) throw invalid(name, value, 'a URL whose path is empty, or the number of a database')
  return {
    from: 'REDIS_URL',
    host: hostname.replace(/^\[(.*)\]$/, '$1') || 'localhost', // an IPv6 address has brackets
    port: Number(port || '6379'),
    tls: protocol === 'rediss:',
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    database
  }
}

function certificates ({ REDIS_CA_FILE: path }: NodeJS.ProcessEnv, { from, tls }: Address): string[] | undefined {
  if (!path) return undefined
  const name = nameOf('REDIS_CA_FILE')
  if (from === 'REDIS_URL' && !tls) throw invalidOption(name, 'a value', "a REDIS_URL that starts with 'rediss://': with 'redis://' nothing is encrypted")
  return readCertificates(path, name)
}

interface Login {
  readonly iam?: true
  readonly username?: string
  readonly password?: string
  readonly credentialsProvider?: ReturnType<typeof passwordFile>
}

function loginOf ({ REDIS_AUTH: auth, REDIS_PASSWORD_FILE: path }: NodeJS.ProcessEnv, { username, password }: Address): Login {
  const problems = new Problems()
  const wrongAuth = (got: string, expected: string) => problems.add(invalidOption(nameOf('REDIS_AUTH'), got, expected))
  const ways = [password && 'a password in REDIS_URL', path && 'REDIS_PASSWORD_FILE', auth === 'iam' && 'REDIS_AUTH=iam'].filter(Boolean)
  const name = nameOf('REDIS_PASSWORD_FILE')
  if (auth && auth !== 'iam') wrongAuth('another value', "'iam', or nothing")
  if (auth === 'iam' && username) wrongAuth('a user in REDIS_URL', 'a URL without one: the service account is the user')
  if (ways.length > 1) {
    problems.add(invalidOption(auth === 'iam' ? nameOf('REDIS_AUTH') : name, ways.join(' and '), 'one of them: they contradict each other'))
  } else if (path) problems.attempt(() => readNamedFile(path, name, 'the path of a file that holds the password of Redis'))
  problems.throwIfAny()
  if (auth) return { iam: true }
  if (!path) return { ...(username && { username }), ...(password && { password }) }
  return { credentialsProvider: passwordFile(path, username || DEFAULT_USER, `the file ${path} (REDIS_PASSWORD_FILE)`) }
}

function isCluster ({ REDIS_CLUSTER: value }: NodeJS.ProcessEnv, { database }: Address): boolean {
  const name = nameOf('REDIS_CLUSTER')
  if (!value || value === 'false') return false
  if (value !== 'true') throw invalidOption(name, 'another value', "'true' or 'false'")
  if (database !== 0) throw invalidOption(name, 'a database in REDIS_URL', 'a URL without one: a cluster has only database 0')
  return true
}
