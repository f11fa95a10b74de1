import type { Attributes, Context, ProxyTracerProvider, Span, SpanContext, SpanKind, Tracer } from '@opentelemetry/api'
import { EventEmitter } from 'node:events'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { Rejection } from './metrics.ts'
import type { Publication } from '../model/publication.ts'
import { readTrace } from '../google/trace-context.ts'

const SCOPE = 'fastify-cloud-run-websocket'

/** Loaded by the first `bind`. */
let api: typeof import('@opentelemetry/api')

/** An upgrade that is neither accepted nor rejected yet. */
interface Upgrade {
  readonly span: Span
  /** The context that was active before the span. */
  readonly outer: Context
  readonly gone: () => void
  rejection: Rejection | undefined
}

/**
 * Creates spans through @opentelemetry/api, for the tracer provider and sampler that the app has registered. Each
 * upgrade has a span: instrumentations of HTTP do not see upgrades. Each publication has a 'send' span from publish to
 * broker, and a 'process' span on every instance that delivers it.
 */
export class Tracing {
  readonly #namespaces: ChannelNamespaces
  readonly #system: string
  readonly #upgrades = new WeakMap<FastifyRequest, Upgrade>()
  #tracer: Tracer | undefined

  constructor (namespaces: ChannelNamespaces, system: 'redis' | 'memory') {
    this.#namespaces = namespaces
    this.#system = system
  }

  /** Imports the API, which takes some 25 ms. A provider may be registered later: the API's tracer is a proxy. */
  async bind (): Promise<void> {
    api ??= await import('@opentelemetry/api')
    this.#tracer ??= api.trace.getTracer(SCOPE)
  }

  /** Whether a tracer provider is registered. Before that, the tracer creates no spans. */
  get registered (): boolean {
    if (this.#tracer === undefined) return false
    const provider = api.trace.getTracerProvider() as Partial<ProxyTracerProvider>
    return provider.getDelegateTracer === undefined || provider.getDelegateTracer(SCOPE) !== undefined
  }

  /** Runs before our other hooks: the span of the upgrade is active in them and in `authenticate`. */
  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (this.#tracer === undefined || !request.ws) return done() // a plain request has a span of HTTP instrumentations
    const outer = api.context.active()
    const span = this.#upgradeSpan(this.#tracer, request.raw, request.routeOptions.url ?? '', Date.now() - reply.elapsedTime)
    if (!api.isSpanContextValid(span.spanContext())) return done() // no provider
    // Only the socket's close tells that `ws` has answered an invalid handshake. Injected requests have no socket.
    const gone = () => { this.#upgraded(request, undefined) }
    if (request.raw.socket instanceof EventEmitter) request.raw.socket.once('close', gone)
    this.#upgrades.set(request, { span, outer, gone, rejection: undefined })
    api.context.with(api.trace.setSpan(outer, span), done)
  }

  /** This plugin rejects the upgrade; `onSend` ends its span. */
  rejected (request: FastifyRequest, rejection: Rejection): void {
    const upgrade = this.#upgrades.get(request)
    if (upgrade !== undefined) upgrade.rejection = rejection
  }

  /** Ends the span of an upgrade that was answered, and so rejected, by this plugin or by a hook of the app. */
  readonly onSend = (request: FastifyRequest, reply: FastifyReply, _payload: unknown, done: () => void): void => {
    this.#upgraded(request, reply.statusCode)
    done()
  }

  /** Ends the span of the upgrade, and runs `open` outside of it: the connection may last for an hour. */
  accepted (request: FastifyRequest, open: () => void): void {
    const upgrade = this.#upgraded(request, 101)
    if (upgrade === undefined) open()
    else api.context.with(upgrade.outer, open)
  }

  /** Creates the span of an upgrade that was rejected after `app.close()`. It never reaches Fastify's router. */
  rejectedAfterClose (request: IncomingMessage, path: string): void {
    if (this.#tracer !== undefined) endUpgrade(this.#upgradeSpan(this.#tracer, request, path, Date.now()), 503, 'draining')
  }

  /** Starts the 'send' span of a publication. undefined without a tracer. */
  send (channel: string, payload: Buffer): Span | undefined {
    const span = this.#tracer && this.#publicationSpan(this.#tracer, 'send', api.SpanKind.PRODUCER, channel, payload, api.context.active())
    return span && api.isSpanContextValid(span.spanContext()) ? span : undefined
  }

  /** Ends the 'send' span. `errorType`: code of the error, if the publish has failed. */
  sent (span: Span | undefined, errorType: string | undefined): void {
    if (errorType !== undefined) span?.setAttribute('error.type', errorType).setStatus({ code: api.SpanStatusCode.ERROR })
    span?.end()
  }

  /** Creates the 'process' span of a publication that the hub has scheduled, if its sender has sampled it. */
  delivered (channel: string, { trace: parent, payload }: Publication): void {
    if (parent === undefined || this.#tracer === undefined) return
    const sender = parseTraceparent(parent)
    if (sender === undefined) return
    const context = api.trace.setSpanContext(api.ROOT_CONTEXT, sender)
    const span = this.#publicationSpan(this.#tracer, 'process', api.SpanKind.CONSUMER, channel, payload, context)
    // The hub writes the frames after two immediates, if the namespace has no batch delay.
    setImmediate(setImmediate, () => span.end())
  }

  #upgradeSpan (tracer: Tracer, { method = 'GET', url = '', headers }: IncomingMessage, route: string, startTime: number): Span {
    const active = api.context.active()
    // An instrumentation of Fastify may have started a span already.
    const parent = api.trace.getSpan(active) === undefined ? api.propagation.extract(active, headers) : active
    const attributes = {
      'http.request.method': method, 'url.path': url.split('?', 1)[0], 'http.route': route, 'network.protocol.name': 'websocket'
    }
    return tracer.startSpan(`${method} ${route}`, { kind: api.SpanKind.SERVER, startTime, attributes }, parent)
  }

  /** Ends the span of the upgrade. Without a status the socket was closed without an answer. */
  #upgraded (request: FastifyRequest, statusCode: number | undefined): Upgrade | undefined {
    const upgrade = this.#upgrades.get(request)
    if (upgrade === undefined) return undefined
    this.#upgrades.delete(request)
    if (request.raw.socket instanceof EventEmitter) request.raw.socket.off('close', upgrade.gone)
    endUpgrade(upgrade.span, statusCode, upgrade.rejection)
    return upgrade
  }

  /** Names contain the namespace only, so that there are few of them. The channel is an attribute. */
  #publicationSpan (
    tracer: Tracer, operation: 'send' | 'process', kind: SpanKind, channel: string, payload: Buffer, parent: Context
  ): Span {
    const template = this.#namespaces.template(channel)
    const attributes: Attributes = {
      'messaging.system': this.#system,
      'messaging.operation.name': operation,
      'messaging.operation.type': operation,
      'messaging.destination.name': channel,
      'messaging.message.body.size': payload.length,
      ...(template !== undefined && { 'messaging.destination.template': template })
    }
    return tracer.startSpan(template === undefined ? operation : `${operation} ${template}`, { kind, attributes }, parent)
  }
}

function endUpgrade (span: Span, statusCode: number | undefined, rejection: Rejection | undefined): void {
  if (statusCode !== undefined) span.setAttribute('http.response.status_code', statusCode)
  if (statusCode !== 101 || rejection !== undefined) span.setAttribute('error.type', rejection ?? (statusCode === undefined ? 'aborted' : String(statusCode)))
  if (statusCode !== undefined && statusCode >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR })
  span.end()
}

/** Trace of a publication (www.w3.org/TR/trace-context/#traceparent-header). undefined unless the span is sampled. */
export function traceparent (span: Span | undefined): string | undefined {
  if (span === undefined) return undefined
  const { traceId, spanId, traceFlags } = span.spanContext()
  return traceFlags & api.TraceFlags.SAMPLED ? `00-${traceId}-${spanId}-01` : undefined
}

/** Calls `run` with the span active, so that spans of Redis instrumentations become its children. */
export function withSpan<A, T> (span: Span | undefined, run: (argument: A) => T, argument: A): T {
  return span === undefined ? run(argument) : api.context.with(api.trace.setSpan(api.context.active(), span), run, undefined, argument)
}

/** undefined unless the header is valid and sampled. It comes from Redis, where anybody may have written it. */
function parseTraceparent (traceparent: string): SpanContext | undefined {
  const { traceId, spanId, sampled } = readTrace({ traceparent }) ?? {}
  if (traceId === undefined || spanId === undefined || sampled !== true) return undefined
  return { traceId, spanId, traceFlags: api.TraceFlags.SAMPLED, isRemote: true }
}
