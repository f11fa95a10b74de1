import type { FastifyRequest } from 'fastify'
import { createPublicKey } from 'node:crypto'
import { totalmem } from 'node:os'
import { noRules } from '../model/channel-rules.ts'
import type { ChannelRules } from '../model/channel-rules.ts'
import type { Connection } from '../model/connection.ts'
import type { End } from '../model/close-codes.ts'
import { boolean, duration, fields, fn, integer, invalid, literal, orLiteral, plainObject, ratio, routePath, text } from './checks.ts'
import type { Check, Duration } from './checks.ts'
import { redisSource } from './redis-source.ts'
import type { RedisOption, RedisSource } from './redis-source.ts'
import { algorithmsOf } from './token-options.ts'
import type { TokenOptions } from './token-options.ts'

/** Who is at the other end, as the host's `authenticate` found out. */
export interface Identity {
  /** The user's id; '' or absent for somebody unknown. */
  user?: string | undefined
  /** What others may see of this user, in presence lists for example. JSON. */
  info?: unknown
  /** Channels it is subscribed to at once. */
  channels?: readonly string[] | undefined
  /** Unix time in seconds from which on the connection must not be used; it is closed then. Default: never. */
  expiresAt?: number | undefined
  /** Anything the host wants to find again on `connection.meta`. Never sent anywhere. */
  meta?: unknown
}

type MaybePromise<T> = T | Promise<T>

/** What an SDK client sent along with its connect; empty for a plain client. */
export interface ConnectDetails {
  data?: unknown
  /** Of the SDK. */
  name?: string
  version?: string
}

/** What a subscription gets. */
export interface SubscribeGrant {
  /** Given to the client with the answer. */
  data?: unknown
  /** What others see of this subscriber in this channel. */
  info?: unknown
  /** Unix time in seconds at which the subscription ends. */
  expiresAt?: number
}

/** What is published in place of what the client sent. */
export interface PublishChange {
  data?: unknown
  tags?: Record<string, string>
  idempotencyKey?: string
  history?: boolean
}

export interface Limit {
  /** How many within `timeWindow`. */
  max: number
  timeWindow: Duration
}

export interface ChannelOptions {
  /** Whether an SDK client may subscribe. Default false. */
  subscribe?: boolean | ((connection: Connection, channel: string) => boolean | Promise<boolean>) | undefined
  /** Whether an SDK client may publish. Default false. */
  publish?: boolean | ((connection: Connection, channel: string, data: unknown) => boolean | Promise<boolean>) | undefined
  /** Keep who is in the channel. Default false. */
  presence?: boolean | undefined
  /** Tell subscribed SDK clients who comes and goes. Default false. */
  joinLeave?: boolean | undefined
  /** Keep at most `size` publications for at most `ttl`: gives offsets, recovery and replay. Default: none kept. */
  history?: { size: number, ttl: Duration } | undefined
  /** Publications of one SDK client in this namespace. Default: unlimited. */
  publishLimit?: Limit | undefined
  /** Whether a subscription token is needed. Default false. */
  token?: boolean | undefined
  /** Publications wait so long for others, to leave in one write per connection: a few ms cost latency and save CPU. At most a second. Default 0 ms: none waits for what is not there yet; what arrives in one turn of the event loop leaves together, with what lies ready in the sockets at its end. */
  batchDelay?: Duration | undefined
  /**
   * What becomes of a client that does not read fast enough. 'close': at `maxBufferedBytes` it is closed, and recovers what it missed when it connects again. 'latest': of what is
   * published while it owes something it gets the last only, for channels where each publication makes the ones before worthless. Default 'close'.
   */
  slow?: 'close' | 'latest' | undefined
}

export interface LoggingOptions {
  /** 'stdout': as with 'auto'. 'api': to Cloud Logging's API, by `@google-cloud/logging`. Default 'stdout'. */
  destination?: 'stdout' | 'api' | undefined
  /** An entry for this share of all messages, received and sent, with the first KB of its content if `content` is true (default false). Default false: none. */
  messages?: false | { ratio: number, content?: boolean | undefined } | undefined
}

/** Every field may be left out: a bare `register` works on a laptop without Redis and without Google. */
export interface Options {
  /** Route for plain WebSocket clients. Default '/ws'; false leaves it out. */
  path?: string | false | undefined
  /** Route for the Centrifugal SDKs, JSON and Protobuf. Default '/connection/websocket'; false leaves it out. */
  sdkPath?: string | false | undefined
  /** Liveness: 200 as long as the process can serve. Default '/health'; false leaves it out. */
  healthPath?: string | false | undefined
  /** Readiness: 503 with reasons while starting, draining, full, or while Redis is away. Default '/ready'; false leaves it out. */
  readyPath?: string | false | undefined
  /**
   * A URL, node-redis client options, cluster options (`{ rootNodes }`) or a client, standalone or cluster, which is
   * duplicated and never closed. Default: env REDIS_URL, else REDISHOST and REDISPORT, else the in-process broker. false: the in-process broker.
   */
  redis?: RedisOption | false | undefined
  /** Starts the name of every Redis key and Pub/Sub channel. Default 'ws'. */
  prefix?: string
  /** Connections this instance holds at the most; an upgrade over it gets 503 with Retry-After. Default 950. */
  maxConnections?: number | undefined
  /** Age at which the plugin closes a connection itself, less up to a tenth by chance. Default 95 % of requestTimeout (57 min); false: never. */
  maxConnectionAge?: Duration | false | undefined
  /** The Cloud Run service's request timeout. Default env CLOUD_RUN_TIMEOUT_SECONDS, else '60m'. */
  requestTimeout?: Duration | undefined
  /** Ping every `interval` (default 25 s), close when nothing comes back within `timeout` (default 10 s). */
  heartbeat?: { interval?: Duration | undefined, timeout?: Duration | undefined } | undefined
  /** Bytes of one incoming message. Default 65,536. */
  maxPayload?: number | undefined
  /** Outgoing bytes that a client may owe before it is dropped. Default 1,048,576. */
  maxBufferedBytes?: number | undefined
  /**
   * Bytes of memory that this process may use: when nine tenths of it are resident upgrades get 503 until some is free, or a tenth of the connections has left; from three quarters on clients that
   * together owe more than a quarter of it are cut, those that owe most first.
   * Default: what the container has, else what the machine has; false: no limit.
   */
  memoryLimit?: number | false | undefined
  /** Browsers from which origins may connect. Default: the same host; '*': any. */
  allowedOrigins?: '*' | readonly (string | RegExp)[] | undefined
  /** Upgrades per client address (default 6,000 a minute) and messages per connection (default 1,000 in 10 s). false turns it, or one of the two, off. */
  rateLimit?: { connections?: Limit | false | undefined, messages?: Limit | false | undefined } | false | undefined
  /** Who is this? Before the upgrade; throwing answers 401 (or the error's own statusCode). Default: everybody, as user ''. */
  authenticate?: ((request: FastifyRequest) => Identity | Promise<Identity>) | undefined
  /** How the JWTs of SDK clients are verified: one of secret (HMAC; a list while it is changed), publicKey (PEM) and jwksUrl, with issuer and audience. Default: none are taken. */
  token?: TokenOptions | undefined
  /** Rules per namespace, the text before the first ':' of a channel ('' for channels without one). Default: none. */
  channels?: Record<string, ChannelOptions> | undefined
  /** A connection is there. Its messages wait until this has ended. An SDK client gets `data` of what it returns. */
  onConnect?: ((connection: Connection, request: FastifyRequest, details: ConnectDetails) => unknown) | undefined
  /** A message came: a string, or a Buffer if the client sent binary; from an SDK's `send` JSON, or a Buffer that is none. One at a time per connection, in order. */
  onMessage?: ((connection: Connection, data: unknown) => unknown) | undefined
  /** The connection has ended, and every message before it was handled. */
  onDisconnect?: ((connection: Connection, end: End) => unknown) | undefined
  /** An SDK client wants to subscribe, and the rules allow it. false or an exception refuses it. */
  onSubscribe?: ((connection: Connection, channel: string, details: { data?: unknown }) => MaybePromise<SubscribeGrant | boolean | void>) | undefined
  /** An SDK client wants to publish, and the rules allow it. false or an exception refuses it; an object changes what is published. */
  onPublish?: ((connection: Connection, channel: string, data: unknown) => MaybePromise<PublishChange | boolean | void>) | undefined
  /** An SDK client calls a method; it gets what this returns. */
  onRpc?: ((connection: Connection, method: string, data: unknown) => unknown) | undefined
  /** Drain at SIGTERM and SIGINT (`signals`, default true) and at app.close(), within `timeout` (default 8 s). false: no drain. */
  shutdown?: { signals?: boolean | undefined, timeout?: Duration | undefined } | false | undefined
  /** Metrics and traces through @opentelemetry/api. Default 'auto': to the SDK that is registered; metrics, where there is none, on Cloud Run or with OTEL_EXPORTER_OTLP_ENDPOINT, to one that is started. */
  telemetry?: 'auto' | false | undefined
  /**
   * Log entries. Default 'auto': through the host's logger; on Cloud Run through one of ours where the host's was not made with
   * `cloudLogging()`. An object is 'auto' with another destination, or with entries for messages.
   */
  logging?: 'auto' | false | LoggingOptions | undefined
}

export interface ResolvedLogging {
  readonly destination: 'stdout' | 'api'
  readonly messages: false | { readonly ratio: number, readonly content: boolean }
}

export interface ResolvedLimit { readonly max: number, readonly timeWindow: number }

export interface ResolvedOptions {
  readonly path: string | false
  readonly sdkPath: string | false
  readonly healthPath: string | false
  readonly readyPath: string | false
  readonly redis: RedisSource | undefined
  readonly prefix: string
  readonly maxConnections: number
  readonly maxConnectionAge: number | false
  readonly requestTimeout: number
  readonly heartbeat: { readonly interval: number, readonly timeout: number }
  readonly maxPayload: number
  readonly maxBufferedBytes: number
  readonly memoryLimit: number | false
  readonly allowedOrigins: 'same-host' | '*' | readonly (string | RegExp)[]
  readonly rateLimit: { readonly connections: ResolvedLimit | false, readonly messages: ResolvedLimit | false }
  readonly authenticate: Options['authenticate']
  readonly token: TokenOptions | undefined
  readonly channels: ReadonlyMap<string, ChannelRules>
  readonly onConnect: Options['onConnect']
  readonly onMessage: Options['onMessage']
  readonly onDisconnect: Options['onDisconnect']
  readonly onSubscribe: Options['onSubscribe']
  readonly onPublish: Options['onPublish']
  readonly onRpc: Options['onRpc']
  readonly shutdown: { readonly signals: boolean, readonly timeout: number } | false
  readonly telemetry: 'auto' | false
  readonly logging: ResolvedLogging | false
}

/** Cloud Run ends every request after 60 minutes at the most (docs.cloud.google.com/run/docs/configuring/request-timeout). */
const CLOUD_RUN_MAX_TIMEOUT = 3_600_000
/** Share of the request timeout after which we close a connection ourselves; the rest is for the close handshake. */
const AGE_SHARE = 0.95

/** ms; an SDK waits for a reply for five seconds. */
const MAX_BATCH_DELAY = 1_000

const limit = fields<ResolvedLimit>({ max: integer(1), timeWindow: duration(1) }, { max: 1, timeWindow: 1_000 })

const limitNoDefault: Check<ResolvedLimit> = (value, name) => {
  const given = plainObject(value, name, 'false or { max, timeWindow }')
  for (const key of ['max', 'timeWindow']) {
    if (given[key] === undefined) throw invalid(`${name}.${key}`, undefined, 'a value: max and timeWindow go together')
  }
  return limit(value, name)
}

const rateLimitDefaults: ResolvedOptions['rateLimit'] = {
  connections: Object.freeze({ max: 6_000, timeWindow: 60_000 }),
  messages: Object.freeze({ max: 1_000, timeWindow: 10_000 })
}

const rateLimit: Check<ResolvedOptions['rateLimit']> = (value, name) => value === false
  ? Object.freeze({ connections: false, messages: false })
  : fields<ResolvedOptions['rateLimit']>({
    connections: orLiteral([false], limitNoDefault), messages: orLiteral([false], limitNoDefault)
  }, rateLimitDefaults)(value, name)

const history: Check<ChannelRules['history']> = (value, name) => {
  const given = plainObject(value, name, "{ size, ttl }, such as { size: 100, ttl: '10m' }")
  for (const key of ['size', 'ttl']) {
    if (given[key] === undefined) throw invalid(`${name}.${key}`, undefined, 'a value: without a bound a channel would grow for ever')
  }
  return fields({ size: integer(1), ttl: duration(1_000) }, { size: 1, ttl: 1_000 })(value, name)
}

const channelRules = fields<ChannelRules>({
  subscribe: orLiteral([true, false], fn()),
  publish: orLiteral([true, false], fn()),
  presence: boolean,
  joinLeave: boolean,
  history,
  publishLimit: limitNoDefault,
  token: boolean,
  batchDelay: duration(0, MAX_BATCH_DELAY),
  slow: literal('close', 'latest')
}, noRules)

const channels: Check<ReadonlyMap<string, ChannelRules>> = (value, name) => {
  const given = plainObject(value, name, 'an object of rules by namespace')
  return new Map(Object.entries(given).map(([namespace, rules]) => {
    if (namespace.includes(':')) throw invalid(name, namespace, "a namespace, which is the text before the first ':' of a channel")
    return [namespace, channelRules(rules, `${name}.${namespace}`)]
  }))
}

const someText: Check<string> = text(/./, 'a text that is not empty')
const secret: Check<string | readonly string[]> = (value, name) => {
  if (!Array.isArray(value)) return someText(value, name)
  if (value.length === 0) throw invalid(name, value, 'a secret, or a list of them')
  return value.map(one => someText(one, name))
}
const keySources = { secret, publicKey, jwksUrl: text(/^https?:\/\/./, 'a URL') }

const token: Check<TokenOptions> = (value, name) => {
  const checked = fields<Record<string, unknown>>({ ...keySources, issuer: someText, audience: someText }, {})(value, name)
  const sources = Object.keys(keySources).filter(key => checked[key] !== undefined)
  if (sources.length !== 1) throw invalid(name, sources, `one of ${Object.keys(keySources).join(', ')}`)
  return checked as unknown as TokenOptions
}

function publicKey (value: unknown, name: string): string {
  try {
    if (algorithmsOf(createPublicKey(value as string)).length > 0) return value as string
  } catch {} // it is no key at all; said below
  throw invalid(name, `a ${typeof value}`, 'a public key in PEM form, of RSA, EC or Ed25519') // not shown: it may be a private one by mistake
}

const allowedOrigins: Check<ResolvedOptions['allowedOrigins']> = (value, name) => {
  if (value === '*') return value
  const allowed = "'*', or a list of origins such as 'https://example.com' and regular expressions"
  if (!Array.isArray(value)) throw invalid(name, value, allowed)
  for (const origin of value) {
    if (!(origin instanceof RegExp) && !(typeof origin === 'string' && /^[a-z][a-z0-9+.-]*:\/\/[^/]+$/i.test(origin))) throw invalid(name, origin, allowed)
  }
  return Object.freeze(value.map(origin => typeof origin === 'string' ? origin.toLowerCase() : origin))
}

const sampledMessages: Check<{ ratio: number, content: boolean }> = (value, name) => {
  const { ratio: given } = plainObject(value, name, 'false or { ratio, content? }')
  if (given === undefined) throw invalid(`${name}.ratio`, undefined, 'a number above 0 and up to 1')
  return fields({ ratio, content: boolean }, { ratio: 1, content: false })(value, name)
}

const loggingDefaults: ResolvedLogging = Object.freeze({ destination: 'stdout', messages: false })

const logging: Check<ResolvedLogging | false> = (value, name) => {
  if (value === 'auto') return loggingDefaults
  if (value === false) return value
  plainObject(value, name, "'auto', false or { destination?, messages? }")
  return fields<ResolvedLogging>({ destination: literal('stdout', 'api'), messages: orLiteral([false], sampledMessages) }, loggingDefaults)(value, name)
}

const shutdownDefaults = { signals: true, timeout: 8_000 }

const checks: { [K in keyof ResolvedOptions]-?: Check<ResolvedOptions[K]> } = {
  path: orLiteral([false], routePath),
  sdkPath: orLiteral([false], routePath),
  healthPath: orLiteral([false], routePath),
  readyPath: orLiteral([false], routePath),
  redis: redisSource,
  prefix: text(/^[^\s{}]+$/, 'a text without white space and braces that is not empty'),
  maxConnections: integer(1),
  maxConnectionAge: orLiteral([false], duration(1_000)),
  requestTimeout: duration(1_000),
  heartbeat: fields({ interval: duration(10), timeout: duration(10) }, { interval: 25_000, timeout: 10_000 }),
  maxPayload: integer(1),
  maxBufferedBytes: integer(1),
  memoryLimit: orLiteral([false], integer(1)),
  allowedOrigins,
  rateLimit,
  authenticate: fn(),
  token,
  channels,
  onConnect: fn(),
  onMessage: fn(),
  onDisconnect: fn(),
  onSubscribe: fn(),
  onPublish: fn(),
  onRpc: fn(),
  shutdown: orLiteral([false], fields({ signals: boolean, timeout: duration(100) }, shutdownDefaults)),
  telemetry: literal('auto', false),
  logging
}

/** Types, defaults and checks every option, once. Nobody else reads raw options. @throws FST_CRWS_UNKNOWN_OPTION, FST_CRWS_INVALID_OPTION */
export function resolveOptions (options: Options, env: NodeJS.ProcessEnv = process.env): ResolvedOptions {
  const resolved = fields(checks, {
    path: '/ws',
    sdkPath: '/connection/websocket',
    healthPath: '/health',
    readyPath: '/ready',
    redis: options.redis === undefined ? redisSource.fromEnvironment(env) : undefined,
    prefix: 'ws',
    maxConnections: 950,
    maxConnectionAge: Number.NaN, // derived below, when the request timeout is known
    requestTimeout: options.requestTimeout === undefined ? requestTimeoutFromEnvironment(env) : CLOUD_RUN_MAX_TIMEOUT,
    heartbeat: Object.freeze({ interval: 25_000, timeout: 10_000 }),
    maxPayload: 65_536,
    maxBufferedBytes: 1_048_576,
    memoryLimit: containerMemory(),
    allowedOrigins: 'same-host',
    rateLimit: Object.freeze(rateLimitDefaults),
    authenticate: undefined,
    token: undefined,
    channels: new Map(),
    onConnect: undefined,
    onMessage: undefined,
    onDisconnect: undefined,
    onSubscribe: undefined,
    onPublish: undefined,
    onRpc: undefined,
    shutdown: Object.freeze(shutdownDefaults),
    telemetry: 'auto',
    logging: loggingDefaults
  } as ResolvedOptions)(options, '')
  return Object.freeze({ ...resolved, maxConnectionAge: connectionAge(resolved) })
}

/** Bytes. Without a limit of its container Node.js names a number beyond all memory, or none; the sandbox of Cloud Run's first generation shows its limit as the machine's memory. */
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
  throw invalid('maxConnectionAge', maxConnectionAge, `less than requestTimeout (${requestTimeout} ms), which would cut the connection first; or false`)
}
