import type { IncomingHttpHeaders } from 'node:http'

/**
 * The trace that a request belongs to, in the terms of W3C Trace Context. A few bytes, so that a connection can keep
 * it.
 */
export interface TraceContext {
  /** 32 hex digits. */
  readonly traceId: string
  /** 16 hex digits. */
  readonly spanId: string | undefined
  readonly sampled: boolean
}

/**
 * Version, trace id, parent id, flags (w3.org/TR/trace-context/#traceparent-header); later versions may go on after
 * that.
 */
const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(?:$|-)/
/** Trace id, and a span id in decimal (docs.cloud.google.com/trace/docs/trace-context#legacy-http-header). */
const LEGACY = /^(?!0{32})([\da-f]{32})(?:\/(\d{1,20}))?(?:;o=(\d))?$/i
/**
 * Nothing that a regular expression above needs is further behind; what a client may send else is not kept in memory.
 */
const MAX_HEADER = 200

/** From `traceparent`, else from `X-Cloud-Trace-Context`; undefined where neither is there and valid. */
export function readTrace ({ traceparent, 'x-cloud-trace-context': legacy }: IncomingHttpHeaders): TraceContext | undefined {
  return fromTraceparent(traceparent) ?? fromLegacy(legacy)
}

function fromTraceparent (header: unknown): TraceContext | undefined {
  const [, version, traceId, spanId, flags] = match(header, TRACEPARENT)
  if (traceId === undefined || (version === '00' && (header as string).length !== 55)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags!, 16) & 1) === 1 }
}

function fromLegacy (header: unknown): TraceContext | undefined {
  const [, traceId, span = '0', options] = match(header, LEGACY)
  if (traceId === undefined) return undefined
  const id = BigInt(span).toString(16)
  return { traceId: traceId.toLowerCase(), spanId: id === '0' || id.length > 16 ? undefined : id.padStart(16, '0'), sampled: options === '1' }
}

function match (header: unknown, pattern: RegExp): (string | undefined)[] {
  return typeof header === 'string' && header.length <= MAX_HEADER ? pattern.exec(header) ?? [] : []
}
