import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { randomBytes } from 'node:crypto'
import { createBackend } from './lib/backends/backend.ts'
import type { Backend } from './lib/backends/backend.ts'
import { BrokerEvents } from './lib/core/broker-events.ts'
import { createCore } from './lib/core/core.ts'
import type { Core } from './lib/core/core.ts'
import { createRealtime } from './lib/core/realtime.ts'
import type { Realtime } from './lib/core/realtime.ts'
import { traceRequests } from './lib/google/cloud-logging.ts'
import { Admission } from './lib/http/admission.ts'
import { addApi } from './lib/http/api/add.ts'
import type { UnusedSockets } from './lib/http/fallback/unused-sockets.ts'
import { addHealthRoute, addReadyRoute } from './lib/http/health.ts'
import { addInspector } from './lib/http/inspector/add.ts'
import { createLimiter } from './lib/http/rate-limit.ts'
import { WebSocketRoutes } from './lib/http/route.ts'
import { refuseTakenRoutes } from './lib/http/taken-routes.ts'
import { trustProxyOf } from './lib/http/trust-proxy.ts'
import { registerWebSocketServer } from './lib/http/websocket-server.ts'
import { Availability } from './lib/lifecycle/availability.ts'
import { Drain } from './lib/lifecycle/drain.ts'
import { Heartbeat } from './lib/lifecycle/heartbeat.ts'
import { MemoryGuard } from './lib/lifecycle/memory-guard.ts'
import { addShutdown } from './lib/lifecycle/shutdown.ts'
import { START_TIMEOUT } from './lib/model/broker.ts'
import type { Broker } from './lib/model/broker.ts'
import { ChannelNamespaces } from './lib/model/channel-rules.ts'
import { AlreadyRegisteredError } from './lib/model/errors.ts'
import { Hints } from './lib/observability/hints/hints.ts'
import { openLogs } from './lib/observability/log-destination.ts'
import { Logs } from './lib/observability/logs.ts'
import { Metrics } from './lib/observability/metrics.ts'
import { Observer } from './lib/observability/observer.ts'
import { startEntry } from './lib/observability/start-entry.ts'
import { Telemetry } from './lib/observability/otel/telemetry.ts'
import { Tracing } from './lib/observability/tracing.ts'
import type { Options } from './lib/options/options.ts'
import { resolveOptions } from './lib/options/resolve.ts'
import { hasSchema } from './lib/options/schema-checks.ts'
import type { ResolvedOptions } from './lib/options/resolve.ts'
import type { Context } from './lib/protocols/centrifugal/context.ts'
import type { Deltas } from './lib/protocols/centrifugal/delta.ts'
import { jsonCodec } from './lib/protocols/centrifugal/json-codec.ts'
import { protobufCodec } from './lib/protocols/centrifugal/protobuf-codec.ts'
import { chooseSubprotocol, SdkProtocol, wantsProtobuf } from './lib/protocols/centrifugal/protocol.ts'
import type { Tokens } from './lib/protocols/centrifugal/tokens.ts'
import { createPlainProtocol } from './lib/protocols/plain/protocol.ts'
import { SharedCalls } from './lib/util/shared-calls.ts'
import { settledWithin } from './lib/util/timeout.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Channels, users and connections, on all instances. */
    realtime: Realtime
  }
}

/** Servers that already have the plugin: encapsulated scopes do not see each other's decorators. */
const servers = new WeakSet<object>()

const cloudRunWebSocket: FastifyPluginAsync<Options> = async (app, given) => {
  if (app.hasDecorator('realtime') || servers.has(app.server)) throw new AlreadyRegisteredError()
  const options = resolveOptions(given)
  refuseTakenRoutes(app, options)
  servers.add(app.server)
  const { path, sdkPath, healthPath, readyPath, shutdown } = options

  const namespaces = new ChannelNamespaces(options.channels)
  const backend = createBackend(options)
  const { kind, broker, presence, rateLimitStore } = backend
  const logs = new Logs(await openLogs(app.log, options.logging, options.logLevel), options.logging, options.trustedProxies)
  traceRequests(app, options.trustedProxies)
  const metrics = new Metrics()
  const tracing = new Tracing(namespaces, kind)
  const hints = new Hints(options, logs)
  const telemetry = new Telemetry(logs)
  const instance = randomBytes(6).toString('base64url')
  const observer = new Observer(instance, logs, metrics, tracing, hints)
  const core = createCore(instance, backend, namespaces, options, observer)
  const { hub, publisher, methods, permissions, subscriptions, connections, registry, control, occupancies } = core
  const drain = new Drain(connections, core.listeners, core.streams, observer, () => app.websocketServer.clients)
  const memory = new MemoryGuard(options.memoryLimit, observer)
  const heartbeat = new Heartbeat(connections, subscriptions, hub, registry, control, occupancies, observer, memory)
  const availability = new Availability(connections, drain, memory, broker, control, kind, options.redisReadiness)
  const admission = new Admission(options, availability, observer)
  app.decorate('realtime', createRealtime(core, backend, observer))

  hints.webSocketServer(...await registerWebSocketServer(app, options, chooseSubprotocol), Date.now())
  hints.trustsProxies(trustProxyOf(app), Date.now())
  const limiter = await createLimiter(app, options, rateLimitStore, observer)
  const routes = new WebSocketRoutes(app, connections, admission, limiter, tracing)
  const plain = await createPlainProtocol(core, namespaces, options, observer)
  if (path !== false) routes.add(path, () => plain)
  const [tokens, deltas] = [await tokensOf(options, observer), await deltasOf(options, namespaces)]
  const forSdks = { instance, reads: new SharedCalls(), tokens, deltas }
  const context = { options, namespaces, methods, permissions, connections, subscriptions, publisher, presence, observer, ...forSdks }
  if (sdkPath !== false) addSdkRoute(routes, sdkPath, context)
  const unused = options.fallback === false ? undefined : await addFallback(app, core, broker, admission, limiter, context)
  if (healthPath !== false) addHealthRoute(app, healthPath, instance, connections, observer)
  if (readyPath !== false) addReadyRoute(app, readyPath, instance, availability, observer)
  await addOptionalParts(app, options, namespaces, core, backend, observer)

  const startBy = Date.now() + START_TIMEOUT
  await broker.start(new BrokerEvents(connections, subscriptions, control, occupancies, observer))
  // Without Redis the app starts all the same; the heartbeat goes on with both.
  await settledWithin(Promise.all([control.listen(), registry.record()]), startBy - Date.now())
  metrics.observe({ connections, hub, broker, limit: options.maxConnections, fallback: options.fallback !== false })
  logs.started(startEntry(options, app.prefix))
  hints.started(Date.now())
  heartbeat.start()
  if (options.telemetry !== false) await telemetry.attach(app, observer)

  addShutdown(app, shutdown, drain, {
    refuseUpgrades: () => routes.refuseUpgrades(),
    drained: () => unused?.destroy(),
    flush: budget => Promise.all([telemetry.close(budget), logs.close()]),
    release: () => release(heartbeat, metrics, core, broker)
  })
}

/** Adds what only some apps use, and imports it only for them. */
async function addOptionalParts (
  app: FastifyInstance, options: ResolvedOptions, namespaces: ChannelNamespaces, core: Core, backend: Backend, observer: Observer
): Promise<void> {
  if (hasSchema(options)) (await import('./lib/core/schemas.ts')).addSchemas(app, options, core.permissions, core.methods)
  await addApi(app, options, namespaces, backend, core, observer)
  await addInspector(app, options, namespaces, core, observer)
}

async function addFallback (...parts: Parameters<typeof import('./lib/http/fallback/add.ts').addFallback>): Promise<UnusedSockets> {
  return (await import('./lib/http/fallback/add.ts')).addFallback(...parts)
}

function addSdkRoute (routes: WebSocketRoutes, path: string, context: Context): void {
  const json = new SdkProtocol(jsonCodec, context)
  const protobuf = new SdkProtocol(protobufCodec, context)
  routes.add(path, (socket, request) => wantsProtobuf(socket, request) ? protobuf : json)
}

async function release (heartbeat: Heartbeat, metrics: Metrics, { registry, occupancies }: Core, broker: Broker): Promise<void> {
  heartbeat.stop()
  metrics.close()
  // It fails while Redis is down; the record expires.
  await Promise.all([registry.remove().catch(() => {}), occupancies.close()])
  await broker.close()
}

/** Only an app that takes tokens waits for the import of `jose`. */
async function tokensOf ({ token }: ResolvedOptions, observer: Observer): Promise<Tokens | undefined> {
  return token && new (await import('./lib/protocols/centrifugal/token-verifier.ts')).TokenVerifier(token, observer)
}

/** Only an app with a namespace that has `delta` waits for its import. */
async function deltasOf ({ channels }: ResolvedOptions, namespaces: ChannelNamespaces): Promise<Deltas | undefined> {
  if (!Array.from(channels.values()).some(({ delta }) => delta)) return undefined
  return new (await import('./lib/protocols/centrifugal/delta.ts')).Deltas(namespaces)
}

/**
 * The plugin. Register it once, before the parts of your app that use `app.realtime`. Every option may be left out:
 * without any, clients connect to `/ws` (plain WebSocket) and `/connection/websocket` (Centrifugal SDKs), and channels
 * stay within this process.
 * @example
 * import Fastify from 'fastify'
 * import cloudRunWebSocket from 'fastify-cloud-run-websocket'
 *
 * const app = Fastify({ logger: true })
 * await app.register(cloudRunWebSocket, {
 *   onConnect: connection => connection.subscribe('news'),
 *   onMessage: (connection, text) => app.realtime.publish('news', { text })
 * })
 * await app.listen({ port: 8080 })
 */
const plugin: FastifyPluginAsync<Options> = fp(cloudRunWebSocket, { fastify: '5.x', name: 'fastify-cloud-run-websocket' })
export default plugin

export type { ChannelData, RealtimeTypes } from './lib/model/realtime-types.ts'
export type { InputOf, OutputOf, Schema, StandardIssue, StandardResult, StandardSchema } from './lib/model/schema.ts'
export type { ApiOptions } from './lib/options/api-options.ts'
export type { ChannelOptions, ChannelsOptions, Limit } from './lib/options/channel-options.ts'
export { defineChannels, defineMethods } from './lib/options/define.ts'
export type { ChannelsOf, ContractOf, DefinedChannel, MethodsOf, SentOf } from './lib/options/define.ts'
export type { CompressionOptions } from './lib/options/compression-options.ts'
export type { ConnectDetails } from './lib/options/connect-details.ts'
export type { MethodOptions, MethodsOptions } from './lib/options/method-options.ts'
export type { Identity } from './lib/options/identity.ts'
export type { InspectOptions } from './lib/options/inspect-options.ts'
export type { LoggingOptions } from './lib/options/logging-options.ts'
export type { Options } from './lib/options/options.ts'
export type { PublishChange } from './lib/options/publish-change.ts'
export type { SubscribeGrant } from './lib/options/subscribe-grant.ts'
export { ClientError } from './lib/model/client-error.ts'
export { cloudLogging } from './lib/google/cloud-logging.ts'
export { iamCredentials } from './lib/google/credentials.ts'
export type { CloudLoggerOptions, CloudLoggingOptions } from './lib/google/cloud-logging.ts'
export { resourceAttributes } from './lib/google/resource.ts'
export type { Duration } from './lib/options/checks.ts'
export { fileCredentials } from './lib/options/redis-files.ts'
export type { RedisClientLike, RedisOption } from './lib/options/redis-source.ts'
export type { Connection, ProtocolName, RequestOptions, RequestRefusedError, SubscribeOptions, SubscribeResult, TransportName } from './lib/model/connection.ts'
export type { CloseCause, End } from './lib/model/close-codes.ts'
export { createPublisher } from './lib/core/create-publisher.ts'
export type { StandalonePublisher } from './lib/core/create-publisher.ts'
export type { PublisherLogger, PublisherOptions } from './lib/options/publisher-options.ts'
export type { Realtime } from './lib/core/realtime.ts'
export type { Listener } from './lib/core/listeners.ts'
export type { Sessions } from './lib/core/session-calls.ts'
export type { ChannelHistory, HistoryOptions, PublishedData, PublishOptions } from './lib/core/publisher.ts'
export type { ListOptions, OccupiedChannel, OnlineUser } from './lib/core/directory.ts'
export type { InstanceInfo } from './lib/core/instance-registry.ts'
export type { StreamEnd, StreamPart } from './lib/model/stream-part.ts'
export type { StreamOptions, StreamResult, StreamSource } from './lib/core/token-stream.ts'
export type { Member } from './lib/model/presence.ts'
export type { Position } from './lib/model/publication.ts'
export type { RedisCredentials } from './lib/model/redis-credentials.ts'
export type { SharedMemory } from './lib/model/shared-memory.ts'
export type { SessionFields } from './lib/model/sessions.ts'
export type { TokenOptions } from './lib/options/token-options.ts'
