import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { Admission } from './lib/http/admission.ts'
import { createBackend } from './lib/backends/backend.ts'
import { Bridge } from './lib/core/broker-events.ts'
import { START_TIMEOUT } from './lib/model/broker.ts'
import { ChannelNamespaces } from './lib/model/channel-rules.ts'
import { Context } from './lib/protocols/centrifugal/context.ts'
import { traceRequests } from './lib/google/cloud-logging.ts'
import { Control } from './lib/core/control.ts'
import { Drain } from './lib/lifecycle/drain.ts'
import { AlreadyRegisteredError } from './lib/model/errors.ts'
import { addHealthRoute, addReadyRoute } from './lib/http/health.ts'
import { Heartbeat } from './lib/lifecycle/heartbeat.ts'
import { Hints } from './lib/observability/hints/hints.ts'
import { Hub } from './lib/hub/hub.ts'
import { Instance } from './lib/core/connections.ts'
import { Instances } from './lib/core/instance-registry.ts'
import { jsonCodec } from './lib/protocols/centrifugal/json-codec.ts'
import { openLogs } from './lib/observability/log-destination.ts'
import { Logs } from './lib/observability/logs.ts'
import { Memory } from './lib/lifecycle/memory-guard.ts'
import { Metrics } from './lib/observability/metrics.ts'
import { resolveOptions } from './lib/options/options.ts'
import type { Options } from './lib/options/options.ts'
import { PlainProtocol } from './lib/protocols/plain.ts'
import { protobufCodec } from './lib/protocols/centrifugal/protobuf-codec.ts'
import { Publisher } from './lib/core/publisher.ts'
import { Realtime } from './lib/core/realtime.ts'
import { addFoundation, addWebSocketRoute, createLimiter, refuseUpgrades, wantsProtobuf } from './lib/http/route.ts'
import { SdkProtocol } from './lib/protocols/centrifugal/protocol.ts'
import { onShutdownSignal } from './lib/lifecycle/signals.ts'
import { Telemetry } from './lib/observability/otel/telemetry.ts'
import { setupFailure, TelemetryReport } from './lib/observability/otel/report.ts'
import { Tracing } from './lib/observability/tracing.ts'
import { within } from './lib/util/timeout.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Channels, users and connections, on all instances. */
    realtime: Realtime
  }
}

/** ms that closing may take where the drain was turned off. */
const NO_DRAIN = 500
/** ms after listening: importing an SDK keeps the event loop busy for some tenths of a second, so the first probes and connections go before. */
const TELEMETRY_DELAY = 1_000
/** ms that the last export may take, of what the drain has left over: at least and at most. */
const MIN_FLUSH = 500
const MAX_FLUSH = 3_000

/** Where OpenTelemetry's API keeps what is registered with it, whichever copy of it that was. */
const OPENTELEMETRY = Symbol.for('opentelemetry.js.api.1')

/** Those that have the plugin: a scope does not see the decorators of its siblings. */
const servers = new WeakSet<object>()

const cloudRunWebSocket: FastifyPluginAsync<Options> = async (app, given) => {
  if (app.hasDecorator('realtime') || servers.has(app.server)) throw new AlreadyRegisteredError()
  const options = resolveOptions(given)
  servers.add(app.server)
  const { path, sdkPath, healthPath, readyPath, shutdown } = options

  const namespaces = new ChannelNamespaces(options.channels)
  const { broker, presence, sessions, rateLimitStore } = createBackend(options)
  const logs = new Logs(await openLogs(app.log, options.logging), options.logging)
  traceRequests(app)
  const metrics = new Metrics()
  const tracing = new Tracing(namespaces, options.redis === undefined ? 'memory' : 'redis')
  const hints = new Hints(options, logs)
  const telemetry = new Telemetry(logs)
  const hub = new Hub(broker, namespaces, options.maxBufferedBytes / 2)
  const publisher = new Publisher(broker, namespaces, metrics, tracing)
  const instance = new Instance(options, hub, presence, publisher, namespaces, metrics, logs, hints)
  const instances = new Instances(instance, hub, presence)
  const control = new Control(broker, publisher, instance)
  const drain = new Drain(instance, metrics, logs, () => app.websocketServer.clients)
  const memory = new Memory(options.memoryLimit, logs)
  const heartbeat = new Heartbeat(instance, hub, instances, control, hints, memory)
  const admission = new Admission(options, instance, drain, memory, metrics, logs, tracing)
  app.decorate('realtime', new Realtime(publisher, presence, sessions, instance, instances, control, logs))

  await addFoundation(app, options)
  const limiter = await createLimiter(app, options, rateLimitStore, admission)
  if (path !== false) {
    const plain = new PlainProtocol(instance)
    addWebSocketRoute(app, path, () => plain, instance, admission, limiter, tracing)
  }
  if (sdkPath !== false) {
    const context = new Context(instance, namespaces, publisher, presence, options.token && new (await import('./lib/protocols/centrifugal/token-verifier.ts')).TokenVerifier(options.token))
    const json = new SdkProtocol(jsonCodec, context, instance, metrics)
    const protobuf = new SdkProtocol(protobufCodec, context, instance, metrics)
    addWebSocketRoute(app, sdkPath, (socket, request) => wantsProtobuf(socket, request) ? protobuf : json, instance, admission, limiter, tracing)
  }
  if (healthPath !== false) addHealthRoute(app, healthPath, instance)
  if (readyPath !== false) addReadyRoute(app, readyPath, instance, broker, control, drain, memory, hints)

  const startBy = Date.now() + START_TIMEOUT
  await broker.start(new Bridge(instance, hub, control, metrics, logs, tracing))
  // Without Redis the app starts all the same; the heartbeat goes on with both.
  await within(startBy - Date.now(), Promise.all([control.listen(), instances.record()]))
  metrics.observe({ connections: instance.connections, hub, broker, limit: options.maxConnections })
  hints.started(Date.now())
  heartbeat.start()
  let telemetryTimer: NodeJS.Timeout | undefined
  if (options.telemetry !== false) {
    // Where the host has registered nothing there is nobody to tell before our SDK comes, and the start does not wait for the import.
    const bindToHost = async () => { if (OPENTELEMETRY in globalThis) await Promise.all([metrics.bind(), tracing.bind()]) }
    await bindToHost()
    app.addHook('onReady', bindToHost)
    app.addHook('onListen', async () => {
      await bindToHost()
      telemetryTimer = setTimeout(() => {
        tracing.bind().then(() => telemetry.start()).then(() => metrics.bind()).catch(error => new TelemetryReport(logs).failed(setupFailure(error, ['@opentelemetry/api'])))
      }, TELEMETRY_DELAY).unref()
    })
  }

  const timeout = shutdown === false ? NO_DRAIN : shutdown.timeout
  const forgetSignals = shutdown !== false && shutdown.signals
    ? onShutdownSignal(timeout, async () => {
      await drain.start(timeout)
      await app.close()
    }, app.log)
    : () => {}
  app.addHook('preClose', async () => {
    refuseUpgrades(app, [path, sdkPath].filter(one => one !== false).map(one => app.prefix + one), admission, tracing)
    await drain.start(timeout)
    drain.cutOthers() // a handler of the host's may have taken one meanwhile
    clearTimeout(telemetryTimer)
    // Not in onClose: for that Fastify waits until every request has been answered, and there may not be the time.
    await Promise.all([telemetry.close(Math.min(MAX_FLUSH, Math.max(MIN_FLUSH, drain.left))), logs.close()])
  })
  app.addHook('onClose', async () => {
    forgetSignals()
    heartbeat.stop()
    metrics.close()
    await instances.remove().catch(() => {}) // while Redis is away; the record expires
    await broker.close()
  })
}

export default fp(cloudRunWebSocket, { fastify: '5.x', name: 'fastify-cloud-run-websocket' })

export type { ChannelOptions, ConnectDetails, Identity, Limit, LoggingOptions, Options, PublishChange, SubscribeGrant } from './lib/options/options.ts'
export { cloudLogging } from './lib/google/cloud-logging.ts'
export type { CloudLoggerOptions, CloudLoggingOptions } from './lib/google/cloud-logging.ts'
export type { Duration } from './lib/options/checks.ts'
export type { RedisClientLike, RedisOption } from './lib/options/redis-source.ts'
export type { Connection, SubscribeResult } from './lib/core/connection.ts'
export type { CloseCause, End } from './lib/model/close-codes.ts'
export type { Realtime, Sessions } from './lib/core/realtime.ts'
export type { ChannelHistory, HistoryOptions, PublishedData, PublishOptions } from './lib/core/publisher.ts'
export type { InstanceInfo } from './lib/core/instance-registry.ts'
export type { Member } from './lib/model/presence.ts'
export type { Position } from './lib/model/publication.ts'
export type { SessionFields } from './lib/model/sessions.ts'
export type { TokenOptions } from './lib/options/token-options.ts'
