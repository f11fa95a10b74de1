import type { FastifyRequest, LogLevel } from 'fastify'
import type { ApiOptions } from './api-options.ts'
import type { ChannelsOptions, Limit } from './channel-options.ts'
import type { Duration } from './checks.ts'
import type { CompressionOptions } from './compression-options.ts'
import type { FallbackOptions } from './fallback-options.ts'
import type { Handlers } from './handlers.ts'
import type { Identity } from './identity.ts'
import type { InspectOptions } from './inspect-options.ts'
import type { LoggingOptions } from './logging-options.ts'
import type { MethodsOptions } from './method-options.ts'
import type { RedisOption } from './redis-source.ts'
import type { TokenOptions } from './token-options.ts'

type MaybePromise<T> = T | Promise<T>

/**
 * Options of the plugin. All of them may be left out: with no options the plugin runs on a laptop, without Redis and
 * without Google.
 */
export interface Options extends Handlers {
  /**
   * Route for plain WebSocket clients; false leaves it out.
   * @default '/ws'
   */
  path?: string | false | undefined
  /**
   * Route for the Centrifugal SDKs, JSON and Protobuf; false leaves it out.
   * @default '/connection/websocket'
   */
  sdkPath?: string | false | undefined
  /**
   * Additions to the plain route. `envelope`: every publication comes as `{ channel, offset, epoch, data }`, and
   * clients subscribe, unsubscribe and publish by messages, under the rules in `channels`.
   * @default { envelope: false }
   */
  plain?: { envelope?: boolean | undefined } | undefined
  /**
   * Routes for clients whose network blocks WebSockets: HTTP streaming and server-sent events, for the Centrifugal SDKs
   * and for a browser's own `EventSource`. True adds all of them; an object names other paths.
   * @default false
   */
  fallback?: boolean | FallbackOptions | undefined
  /**
   * Route for liveness probes; false leaves it out. It answers 200 as long as the process can serve.
   * @default '/health'
   */
  healthPath?: string | false | undefined
  /**
   * Route for readiness probes; false leaves it out. It answers 503 with the reasons while the instance starts,
   * drains, is full or short of memory, or has no Redis, as `redisReadiness` says.
   * @default '/ready'
   */
  readyPath?: string | false | undefined
  /**
   * Route of an HTTP API for your backend in any language: Centrifugo's server API, such as `POST /api/publish`. It
   * needs `api`. False leaves it out.
   * @default false
   */
  apiPath?: string | false | undefined
  /**
   * Who may call the HTTP API: `{ key }` or `{ authorize }`.
   * @default undefined
   */
  api?: ApiOptions | undefined
  /**
   * When an instance without Redis is not ready. 'start': until Redis was up for the first time. All instances share
   * Redis, so nothing is gained by taking them all out of service later. 'always': whenever Redis is down, for several
   * regions with a Redis each, between which a load balancer chooses.
   * @default 'start'
   */
  redisReadiness?: 'start' | 'always' | undefined
  /**
   * Route of a page that shows instances, connections and channels, and can publish and disconnect; false leaves it
   * out. It needs `inspect`.
   * @default false
   */
  inspectPath?: string | false | undefined
  /**
   * Who may look at the page of `inspectPath`.
   * @default undefined (nobody, so `inspectPath` is an error)
   */
  inspect?: InspectOptions | undefined
  /**
   * Redis, which joins the instances: a URL, node-redis client options, cluster options (`{ rootNodes }`), Sentinel
   * options (`{ name, sentinelRootNodes }`), or a client of any of these kinds. A client is duplicated and never used
   * or closed. False keeps everything in this process. Tests join apps of one process with `sharedMemory()`.
   * @default env REDIS_URL, else REDISHOST and REDISPORT, else false; with REDIS_CA_FILE, REDIS_PASSWORD_FILE,
   * REDIS_AUTH and REDIS_CLUSTER
   */
  redis?: RedisOption | false | undefined
  /**
   * Prefix of every Redis key and Pub/Sub channel. It contains no whitespace and no braces.
   * @default 'ws'
   */
  keyPrefix?: string | undefined
  /**
   * The old name of `keyPrefix`. The routes follow the prefix of the scope in which the plugin is registered.
   * @deprecated Use `keyPrefix`.
   */
  prefix?: string // without undefined, like the next two: Fastify's own options of these names have none
  /**
   * Level of the log entries of the plugin and of its routes. The probes of `healthPath` and `readyPath` stay silent.
   * @default the level of the app's logger
   */
  logLevel?: LogLevel
  /**
   * Serializers for the log entries of the plugin's routes, by field, as for any plugin.
   * @default those of the app's logger
   */
  logSerializers?: Record<string, (value: any) => string>
  /**
   * Maximum number of connections of this instance. Further upgrades get 503 with Retry-After.
   * @default 950
   */
  maxConnections?: number | undefined
  /**
   * Age at which the plugin closes a connection, before Cloud Run does it. Up to a tenth is taken off at random, so
   * that clients do not all connect again at once. Less than `requestTimeout`; at least 1 s; false: never.
   * @default 95% of `requestTimeout` (57 minutes)
   */
  maxConnectionAge?: Duration | false | undefined
  /**
   * Request timeout of the Cloud Run service. At least 1 s.
   * @default env CLOUD_RUN_TIMEOUT_SECONDS, else '60m'
   */
  requestTimeout?: Duration | undefined
  /**
   * A client is pinged every `interval`. It is closed if nothing comes from it within `timeout` after a ping. At
   * least 10 ms each.
   * @default { interval: '25s', timeout: '10s' }
   */
  heartbeat?: { interval?: Duration | undefined, timeout?: Duration | undefined } | undefined
  /**
   * Maximum size of an incoming message, in bytes. A larger one closes the connection with 1009.
   * @default 65_536
   */
  maxPayload?: number | undefined
  /**
   * Maximum number of outgoing bytes that may wait for a client. A slower client is closed with 3008.
   * @default 1_048_576
   */
  maxBufferedBytes?: number | undefined
  /**
   * Offers permessage-deflate (RFC 7692) to clients. A publication is compressed once for all clients of its channel.
   * True takes the defaults. A namespace turns it off with `compression: false`. If your app has registered its own
   * `@fastify/websocket`, that one decides what is offered.
   * @default false
   */
  compression?: boolean | CompressionOptions | undefined
  /**
   * Memory of this process, in bytes. When nine tenths are resident, upgrades get 503 until some is free, or until a
   * tenth of the connections has left. Above three quarters, clients are terminated if more than a quarter of the limit
   * waits to be sent to all clients together. Those with the most bytes waiting go first. False: no limit.
   * @default the memory of the container, else of the machine
   */
  memoryLimit?: number | false | undefined
  /**
   * Origins from which browsers may connect: '*' for any, or a list of strings such as 'https://example.com' and
   * regular expressions. A browser from elsewhere gets 403. A client that sends no Origin is not a browser and may
   * connect.
   * @default the same host
   */
  allowedOrigins?: '*' | readonly (string | RegExp)[] | undefined
  /**
   * `connections` limits upgrades per client address, on all instances that share a Redis; upgrades over the limit get
   * 429. `messages` limits messages and commands per connection; messages over the limit are not handled. Presence and
   * history count as one for each 4 KiB of the answer. False turns off one limit, or both.
   * @default { connections: { max: 6_000, timeWindow: '1m' }, messages: { max: 1_000, timeWindow: '10s' } }
   */
  rateLimit?: { connections?: Limit | false | undefined, messages?: Limit | false | undefined } | false | undefined
  /**
   * How the client's address is found: the number of trusted proxies in front of this service's own front end, or
   * `(request) => address`. 0 on run.app, 1 behind Google's external load balancer. Outside Cloud Run it is the number
   * of entries of X-Forwarded-For that are trusted. While it is 0, Fastify's `trustProxy` decides, if the app has set
   * it.
   * @default 0
   */
  trustedProxies?: number | ((request: FastifyRequest) => string) | undefined
  /**
   * Finds out who the user is, before the upgrade, on both routes, within 10 s. If it throws, the upgrade gets 401, or
   * the error's own `statusCode`. The client sees the message of a `ClientError` and of an error with a 4xx status
   * code. Browsers see no status. A `ClientError` with a close code tells them why, and keeps SDKs out: see
   * `ClientError`.
   * @default undefined (everybody may connect, as user '')
   */
  authenticate?: ((request: FastifyRequest) => MaybePromise<Identity>) | undefined
  /**
   * How the JWTs of SDK clients are verified.
   * @default undefined (clients with a token are refused)
   */
  token?: TokenOptions | undefined
  /**
   * What clients may do in channels on their own, by namespace: SDK clients, and plain ones with `plain.envelope`. The
   * namespace is the part of a channel's name before the first ':'; it is '' for names without one. Channels of other
   * namespaces have no history, and clients get error 102.
   * @default {}
   */
  channels?: ChannelsOptions | undefined
  /**
   * How long a channel without subscribers still counts as occupied, and a user without a connection as online: a
   * client that reloads its page, or moves to another instance, comes back within that time. At most an hour.
   * @default '10s'
   */
  gracePeriod?: Duration | undefined
  /**
   * Methods that clients call by name: with an SDK's `rpc`, and on the plain route with
   * `{ "id": 1, "method": "todo.add", "data": … }`. Any other name gets error 104, or goes to `onRpc` if there is one.
   * @default {}
   */
  methods?: MethodsOptions | undefined
  /**
   * Closes all connections within `timeout` (at least 100 ms) when the app closes, and at SIGTERM and SIGINT if
   * `signals` is true. A repeated signal changes nothing, except a SIGINT two seconds or more after the first one: it
   * ends the process. False: connections are closed within half a second, and signals are not handled.
   * @default { signals: true, timeout: '8s' }
   */
  shutdown?: { signals?: boolean | undefined, timeout?: Duration | undefined } | false | undefined
  /**
   * Metrics and traces through `@opentelemetry/api`. 'auto' uses the SDK that your app has registered. If it has
   * none, 'auto' starts one for metrics: on Cloud Run, GKE and App Engine flexible, and wherever
   * OTEL_EXPORTER_OTLP_ENDPOINT is set. False: none.
   * @default 'auto'
   */
  telemetry?: 'auto' | false | undefined
  /**
   * Log entries. 'auto' writes through your app's logger. On Cloud Run and App Engine it uses a logger of its own on
   * stdout, unless your app's was made with `cloudLogging()`. An object chooses another destination, or entries for
   * messages. False: none.
   * @default 'auto'
   */
  logging?: 'auto' | false | LoggingOptions | undefined
}
