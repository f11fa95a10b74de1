import type { FastifyRequest, LogLevel } from 'fastify'
import { totalmem } from 'node:os'
import { api, apiPath, checkApi } from './api-checks.ts'
import { channels } from './channel-checks.ts'
import { boolean, duration, fields, fn, integer, invalid, literal, orLiteral, plainObject, ratio, routePath, string } from './checks.ts'
import type { Check, Resolved } from './checks.ts'
import { compression } from './compression-options.ts'
import { fallback } from './fallback-checks.ts'
import { checkInspector, inspect } from './inspect-options.ts'
import { checkKeyPrefix, withKeyPrefix } from './key-prefix.ts'
import { rateLimit, rateLimitDefaults } from './limit-checks.ts'
import { methods } from './method-checks.ts'
import type { Options } from './options.ts'
import { Problems } from './problems.ts'
import { redisFromEnvironment } from './redis-environment.ts'
import { redisSource } from './redis-source.ts'
import { token } from './token-checks.ts'

/** Options after checking: every option has its value. */
export type ResolvedOptions = Resolved<typeof checks>

export type ResolvedLogging = Exclude<ResolvedOptions['logging'], false>

/**
 * Cloud Run ends every request after 60 minutes at most (docs.cloud.google.com/run/docs/configuring/request-timeout).
 */
const CLOUD_RUN_MAX_TIMEOUT = 3_600_000
/** Share of the request timeout after which we close a connection. The rest is for the close handshake. */
const AGE_SHARE = 0.95
/** Stands for a `maxConnectionAge` that depends on the request timeout. */
const DERIVED = Number.NaN

type AllowedOrigins = 'same-host' | '*' | readonly (string | RegExp)[]
const allowedOrigins: Check<AllowedOrigins> = (value, name) => {
  if (value === '*') return value
  const allowed = "'*', or a list of origins such as 'https://example.com' and regular expressions"
  if (!Array.isArray(value)) throw invalid(name, value, allowed)
  const problems = new Problems()
  const origins = value.map(origin => problems.attempt((): string | RegExp => {
    if (origin instanceof RegExp) return origin
    if (typeof origin === 'string' && /^[a-z][a-z0-9+.-]*:\/\/[^/]+$/i.test(origin)) return origin.toLowerCase()
    throw invalid(name, origin, allowed)
  }))
  problems.throwIfAny()
  return Object.freeze(origins as (string | RegExp)[])
}

type TrustedProxies = number | ((request: FastifyRequest) => string)
const trustedProxies: Check<TrustedProxies> = (value, name) => {
  if (typeof value === 'function' || (Number.isSafeInteger(value) && value as number >= 0)) return value as TrustedProxies
  throw invalid(name, value, 'a whole number of at least 0, or a function that returns the address')
}

const messages = fields({ ratio, content: boolean }, { content: false }, {
  required: { ratio: 'a number above 0 and up to 1' }, allowed: 'false or { ratio, content? }'
})
type LoggingFields = { readonly destination: 'stdout' | 'api', readonly messages: false | ReturnType<typeof messages> }
const loggingDefaults: LoggingFields = Object.freeze({ destination: 'stdout', messages: false })
const loggingFields = fields({ destination: literal('stdout', 'api'), messages: orLiteral([false], messages) }, loggingDefaults, {
  allowed: "'auto', false or { destination?, messages? }"
})
const logging: Check<LoggingFields | false> = (value, name) => value === 'auto' ? loggingDefaults : value !== false && loggingFields(value, name)

const logSerializers: Check<NonNullable<Options['logSerializers']>> = (value, name) => {
  const allowed = 'an object of functions by field'
  const given = plainObject(value, name, allowed)
  if (Object.values(given).every(serializer => typeof serializer === 'function')) return given as Record<string, (value: unknown) => string>
  throw invalid(name, value, allowed)
}

const plainDefaults = Object.freeze({ envelope: false })
const heartbeatDefaults = Object.freeze({ interval: 25_000, timeout: 10_000 })
const shutdownDefaults = Object.freeze({ signals: true, timeout: 8_000 })

const checks = {
  path: orLiteral([false], routePath),
  sdkPath: orLiteral([false], routePath),
  plain: fields({ envelope: boolean }, plainDefaults),
  fallback,
  healthPath: orLiteral([false], routePath),
  readyPath: orLiteral([false], routePath),
  apiPath: orLiteral([false], apiPath),
  api,
  redisReadiness: literal('start', 'always'),
  inspectPath: orLiteral([false], routePath),
  inspect,
  redis: redisSource,
  keyPrefix: checkKeyPrefix,
  maxConnections: integer(1),
  maxConnectionAge: orLiteral([false], duration(1_000)),
  requestTimeout: duration(1_000),
  heartbeat: fields({ interval: duration(10), timeout: duration(10) }, heartbeatDefaults),
  maxPayload: integer(1),
  maxBufferedBytes: integer(1),
  compression,
  memoryLimit: orLiteral([false], integer(1)),
  allowedOrigins,
  rateLimit,
  trustedProxies,
  authenticate: fn<Options['authenticate']>(),
  token,
  channels,
  onConnect: fn<Options['onConnect']>(),
  onMessage: fn<Options['onMessage']>(),
  onDisconnect: fn<Options['onDisconnect']>(),
  onOccupied: fn<Options['onOccupied']>(),
  onVacated: fn<Options['onVacated']>(),
  onUserOnline: fn<Options['onUserOnline']>(),
  onUserOffline: fn<Options['onUserOffline']>(),
  gracePeriod: duration(0, 3_600_000),
  onSubscribe: fn<Options['onSubscribe']>(),
  onPublish: fn<Options['onPublish']>(),
  onRpc: fn<Options['onRpc']>(),
  methods,
  shutdown: orLiteral([false], fields({ signals: boolean, timeout: duration(100) }, shutdownDefaults)),
  telemetry: literal('auto', false),
  logging,
  logLevel: string(/./, "a level of the app's logger, such as 'warn'") as Check<LogLevel | undefined>,
  logSerializers: logSerializers as Check<Options['logSerializers']>
} satisfies { readonly [name in Exclude<keyof Options, 'prefix'>]-?: Check<unknown> }

/** The defaults that depend on nothing. */
const constantDefaults = {
  path: '/ws',
  sdkPath: '/connection/websocket',
  plain: plainDefaults,
  fallback: false,
  healthPath: '/health',
  readyPath: '/ready',
  apiPath: false,
  api: undefined,
  redisReadiness: 'start',
  inspectPath: false,
  inspect: undefined,
  keyPrefix: 'ws',
  maxConnections: 950,
  maxConnectionAge: DERIVED,
  heartbeat: heartbeatDefaults,
  maxPayload: 65_536,
  maxBufferedBytes: 1_048_576,
  compression: false,
  allowedOrigins: 'same-host',
  rateLimit: rateLimitDefaults,
  trustedProxies: 0,
  authenticate: undefined,
  token: undefined,
  channels: new Map(),
  onConnect: undefined,
  onMessage: undefined,
  onDisconnect: undefined,
  onOccupied: undefined,
  onVacated: undefined,
  onUserOnline: undefined,
  onUserOffline: undefined,
  gracePeriod: 10_000,
  onSubscribe: undefined,
  onPublish: undefined,
  onRpc: undefined,
  methods: new Map(),
  shutdown: shutdownDefaults,
  telemetry: 'auto',
  logging: loggingDefaults,
  logLevel: undefined,
  logSerializers: undefined
} as const

/**
 * Checks every option and fills in the defaults, once. Nobody else reads raw options. An error names all that is
 * wrong.
 * @throws FST_CRWS_UNKNOWN_OPTION, FST_CRWS_INVALID_OPTION
 */
export function resolveOptions (options: Options, env: NodeJS.ProcessEnv = process.env): ResolvedOptions {
  const problems = new Problems()
  const given = plainObject(options, 'options', 'an object')
  const { redis, requestTimeout } = given
  const fromEnvironment = requestTimeout === undefined ? problems.attempt(() => requestTimeoutFromEnvironment(env)) : undefined
  const defaults = {
    ...constantDefaults,
    redis: problems.attempt(() => redis === undefined ? redisFromEnvironment(env) : undefined),
    requestTimeout: fromEnvironment ?? CLOUD_RUN_MAX_TIMEOUT,
    memoryLimit: containerMemory()
  }
  const resolved = problems.attempt(() => fields(checks, defaults)(withKeyPrefix(given, problems), ''))
  const maxConnectionAge = resolved && problems.attempt(() => connectionAge(resolved))
  if (resolved !== undefined) problems.attempt(() => checkApi(given, resolved))
  if (resolved !== undefined) problems.attempt(() => checkInspector(resolved.inspectPath, resolved.inspect))
  problems.throwIfAny()
  return Object.freeze({ ...resolved!, maxConnectionAge: maxConnectionAge! })
}

/**
 * Bytes. Without a limit of its container, Node.js reports none, or a number beyond all memory. The sandbox of Cloud
 * Run's first generation shows its limit as the machine's memory.
 */
function containerMemory (): number {
  return Math.min(process.constrainedMemory() || Infinity, totalmem())
}

function requestTimeoutFromEnvironment (env: NodeJS.ProcessEnv): number {
  const seconds = env.CLOUD_RUN_TIMEOUT_SECONDS
  if (seconds === undefined || seconds === '') return CLOUD_RUN_MAX_TIMEOUT
  if (/^\d+$/.test(seconds) && Number(seconds) > 0) return Number(seconds) * 1_000
  throw invalid('requestTimeout (env CLOUD_RUN_TIMEOUT_SECONDS)', seconds, 'a whole number of seconds')
}

function connectionAge ({ maxConnectionAge, requestTimeout }: ResolvedOptions): number | false {
  if (maxConnectionAge === false) return false
  if (Number.isNaN(maxConnectionAge)) return Math.round(requestTimeout * AGE_SHARE)
  if (maxConnectionAge < requestTimeout) return maxConnectionAge
  const allowed = `less than requestTimeout (${requestTimeout} ms), which would cut the connection first; or false`
  throw invalid('maxConnectionAge', maxConnectionAge, allowed)
}
