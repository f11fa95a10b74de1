import type { Attributes, Context, Span, SpanContext, SpanKind, Tracer } from '@opentelemetry/api'
import { EventEmitter } from 'node:events'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { Rejection } from './metrics.ts'
import type { Publication } from '../model/publication.ts'

/** There as soon as an app has a tracer. */
let api: typeof import('@opentelemetry/api')

/** An upgrade that is neither accepted nor refused yet. */
interface Upgrade {
  readonly span: Span
  /** What was current around it. */
  readonly outer: Context
  readonly gone: () => void
  rejection: Rejection | undefined
}

/**
 * Spans through @opentelemetry/api, for the tracer that the host has registered and as its sampler says; without one there are none. One for
 * each upgrade, which instrumentations of HTTP do not see, and those of a publication: from publish to broker, and one wherever it is delivered.
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

  /** Imports the API, which takes some 25 ms. From then on there are spans, also for a tracer that is registered later. */
  async bind (): Promise<void> {
    api ??= await import('@opentelemetry/api')
    this.#tracer ??= api.trace.getTracer('fastify-cloud-run-websocket')
  }

  /** Ahead of our other hooks: the span of the upgrade is the current one in them, so that what `authenticate` does belongs to it. */
  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (this.#tracer === undefined || !request.ws) return done() // what is no upgrade, HTTP instrumentations see
    const outer = api.context.active()
    const span = this.#upgradeSpan(this.#tracer, request.raw, request.routeOptions.url ?? '', Date.now() - reply.elapsedTime)
    if (!api.isSpanContextValid(span.spanContext())) return done() // nobody traces
    // `ws` itself answers what is no right handshake, and nobody else tells. An injected request has no real socket.
    const gone = () => { this.#upgraded(request, undefined) }
    if (request.raw.socket instanceof EventEmitter) request.raw.socket.once('close', gone)
    this.#upgrades.set(request, { span, outer, gone, rejection: undefined })
    api.context.with(api.trace.setSpan(outer, span), done)
  }

  /** Why, if it was us who refused it. */
  rejected (request: FastifyRequest, rejection: Rejection): void {
    const upgrade = this.#upgrades.get(request)
    if (upgrade !== undefined) upgrade.rejection = rejection
  }

  /** Who answers an upgrade refuses it. */
  readonly onSend = (request: FastifyRequest, reply: FastifyReply, _payload: unknown, done: () => void): void => {
    this.#upgraded(request, reply.statusCode)
    done()
  }

  /** It is a connection now. What it begins may go on for an hour, and is no part of the upgrade. */
  accepted (request: FastifyRequest, open: () => void): void {
    const upgrade = this.#upgraded(request, 101)
    if (upgrade === undefined) open()
    else api.context.with(upgrade.outer, open)
  }

  /** An upgrade after `app.close()`, which never becomes a request of Fastify's. */
  closing (request: IncomingMessage, path: string): void {
    if (this.#tracer !== undefined) endUpgrade(this.#upgradeSpan(this.#tracer, request, path, Date.now()), 503, 'draining')
  }

  /** A publication is on its way to the broker; undefined without a tracer. */
  send (channel: string, payload: Buffer): Span | undefined {
    const span = this.#tracer && this.#publicationSpan(this.#tracer, 'send', api.SpanKind.PRODUCER, channel, payload, api.context.active())
    return span && api.isSpanContextValid(span.spanContext()) ? span : undefined
  }

  /** With the code of the error, if it has failed. */
  sent (span: Span | undefined, errorType: string | undefined): void {
    if (errorType !== undefined) span?.setAttribute('error.type', errorType).setStatus({ code: api.SpanStatusCode.ERROR })
    span?.end()
  }

  /** A publication has come that was sampled where it was sent; undefined for all others. */
  process (channel: string, { trace: parent, payload }: Publication): Span | undefined {
    if (parent === undefined || this.#tracer === undefined) return undefined
    const sender = parseTraceparent(parent)
    return sender && this.#publicationSpan(this.#tracer, 'process', api.SpanKind.CONSUMER, channel, payload, api.trace.setSpanContext(api.ROOT_CONTEXT, sender))
  }

  /** Its frames have left by then (see `Hub`), but for a batch delay. */
  processed (span: Span | undefined): void {
    if (span !== undefined) setImmediate(setImmediate, () => span.end())
  }

  #upgradeSpan (tracer: Tracer, { method = 'GET', url = '', headers }: IncomingMessage, route: string, startTime: number): Span {
    const active = api.context.active()
    // An instrumentation of Fastify may have begun one already.
    const parent = api.trace.getSpan(active) === undefined ? api.propagation.extract(active, headers) : active
    const attributes = { 'http.request.method': method, 'url.path': url.split('?', 1)[0], 'http.route': route, 'network.protocol.name': 'websocket' }
    return tracer.startSpan(`${method} ${route}`, { kind: api.SpanKind.SERVER, startTime, attributes }, parent)
  }

  #upgraded (request: FastifyRequest, statusCode: number | undefined): Upgrade | undefined {
    const upgrade = this.#upgrades.get(request)
    if (upgrade === undefined) return undefined
    this.#upgrades.delete(request)
    if (request.raw.socket instanceof EventEmitter) request.raw.socket.off('close', upgrade.gone)
    endUpgrade(upgrade.span, statusCode, upgrade.rejection)
    return upgrade
  }

  /** There are as many names as the host has named namespaces: a channel's own name is an attribute. */
  #publicationSpan (tracer: Tracer, operation: 'send' | 'process', kind: SpanKind, channel: string, payload: Buffer, parent: Context): Span {
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

/** Without a status it ended without an answer of ours. */
function endUpgrade (span: Span, statusCode: number | undefined, rejection: Rejection | undefined): void {
  if (statusCode !== undefined) span.setAttribute('http.response.status_code', statusCode)
  if (statusCode !== 101) span.setAttribute('error.type', rejection ?? (statusCode === undefined ? 'aborted' : String(statusCode)))
  if (statusCode !== undefined && statusCode >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR })
  span.end()
}

/** What a publication carries (www.w3.org/TR/trace-context/#traceparent-header), if it is sampled. */
export function traceparent (span: Span | undefined): string | undefined {
  if (span === undefined) return undefined
  const { traceId, spanId, traceFlags } = span.spanContext()
  return traceFlags & api.TraceFlags.SAMPLED ? `00-${traceId}-${spanId}-01` : undefined
}

/** What `run` does, that of instrumentations of Redis for example, belongs to the span. */
export function within<T> (span: Span | undefined, run: () => T): T {
  return span === undefined ? run() : api.context.with(api.trace.setSpan(api.context.active(), span), run)
}

/** undefined for what is not sampled, or not in this form: it comes from Redis. */
function parseTraceparent (text: string): SpanContext | undefined {
  const [, traceId = '', spanId = '', flags = ''] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(text) ?? []
  const traceFlags = Number.parseInt(flags, 16) & api.TraceFlags.SAMPLED
  const spanContext = { traceId, spanId, traceFlags, isRemote: true }
  return traceFlags !== 0 && api.isSpanContextValid(spanContext) ? spanContext : undefined
}
