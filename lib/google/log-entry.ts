import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { remoteAddress } from './client-address.ts'
import type { TrustedProxies } from './client-address.ts'
import type { TraceContext } from './trace-context.ts'

/**
 * Names that Cloud Logging takes out of a line of JSON
 * (docs.cloud.google.com/logging/docs/structured-logging#special-payload-fields).
 */
export const TRACE = 'logging.googleapis.com/trace'
export const SPAN_ID = 'logging.googleapis.com/spanId'
export const TRACE_SAMPLED = 'logging.googleapis.com/trace_sampled'
export const LABELS = 'logging.googleapis.com/labels'
export const OPERATION = 'logging.googleapis.com/operation'

/**
 * With this type Error Reporting takes an entry, whatever its message is
 * (docs.cloud.google.com/error-reporting/docs/formatting-error-messages).
 */
const REPORTED_ERROR = 'type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent'

/** Labels of one entry, and characters of a label's name and value (docs.cloud.google.com/logging/quotas). */
const MAX_LABELS = 64
const MAX_LABEL_NAME = 512
const MAX_LABEL_VALUE = 8_192

/** Bytes of one entry. Cloud Logging refuses more than 256 KB, and counts in a form of its own. */
const MAX_ENTRY = 131_072
/**
 * Characters of a string, and members of a list or an object, that are kept in an entry that is too large; the next
 * pair if it is still too large.
 */
const CUTS = [[16_384, 1_000], [1_024, 100], [128, 20]] as const
/** Levels of an object that are left then. */
const MAX_DEPTH = 8

export interface HttpRequest {
  requestMethod?: string
  /** Without the query, in which clients that can send no headers carry their tokens. */
  requestUrl?: string
  status?: number
  userAgent?: string
  remoteIp?: string
  protocol?: string
  /** Such as '0.123456s'. */
  latency?: string
}

/** `ms`: how long it took. */
export function httpRequest (
  request: FastifyRequest | IncomingMessage, trustedProxies: TrustedProxies, status?: number, ms?: number
): HttpRequest {
  const { httpVersion, headers } = 'raw' in request ? request.raw : request
  const { method, url = '', socket } = request
  const encrypted = headers['x-forwarded-proto'] === 'https' || (socket !== undefined && 'encrypted' in socket)
  const [path = ''] = url.split('?', 1)
  const remoteIp = remoteAddress(request, trustedProxies)
  return {
    ...(method !== undefined && { requestMethod: method }),
    requestUrl: headers.host === undefined ? path : `${encrypted ? 'https' : 'http'}://${headers.host}${path}`,
    ...(status !== undefined && { status }),
    ...(headers['user-agent'] !== undefined && { userAgent: headers['user-agent'] }),
    ...(remoteIp !== undefined && { remoteIp }),
    ...(httpVersion !== undefined && { protocol: `HTTP/${httpVersion}` }),
    ...(ms !== undefined && { latency: `${(Math.max(0, ms) / 1_000).toFixed(6)}s` })
  }
}

/** An entry is shown with its request only under the full name of the trace: without a project it has none. */
export function traceFields (trace: TraceContext | undefined, project: string | undefined): object {
  if (trace === undefined || project === undefined) return {}
  const { traceId, spanId, sampled } = trace
  return { [TRACE]: `projects/${project}/traces/${traceId}`, ...(spanId !== undefined && { [SPAN_ID]: spanId }), [TRACE_SAMPLED]: sampled }
}

export interface Service {
  readonly service: string | undefined
  readonly version: string | undefined
}

/** What makes an entry an error in Error Reporting, grouped by its stack and shown with its service and version. */
export function errorFields (err: unknown, { service, version }: Service): object {
  return {
    '@type': REPORTED_ERROR,
    ...(err instanceof Error && { stack_trace: stackOf(err) }),
    ...(service !== undefined && { serviceContext: { service, ...(version !== undefined && { version }) } })
  }
}

function stackOf ({ stack, name, message, cause }: Error): string {
  const own = stack ?? `${name}: ${message}`
  return cause instanceof Error ? `${own}\nCaused by: ${cause.stack ?? cause.message}` : own
}

/** Keeps the first labels, as many as an entry may have. All values become strings. */
export function boundLabels (labels: Record<string, unknown>): Record<string, string> {
  const few = Object.entries(labels).slice(0, MAX_LABELS)
  return Object.fromEntries(few.map(([name, value]) => [name.slice(0, MAX_LABEL_NAME), cutText(String(value), MAX_LABEL_VALUE)]))
}

/**
 * Returns one line of JSON that Cloud Logging accepts. If it is too large, long strings and lists are cut and marked.
 */
export function boundLine (line: string): string {
  if (line.length <= MAX_ENTRY / 3 || Buffer.byteLength(line) <= MAX_ENTRY) return line // three bytes per character at the most
  const entry = JSON.parse(line) as Record<string, unknown>
  for (const [text, members] of CUTS) {
    const shorter = JSON.stringify(cut(entry, text, members, MAX_DEPTH)) + '\n'
    if (Buffer.byteLength(shorter) <= MAX_ENTRY) return shorter
  }
  const { severity, time, message, event } = entry
  return JSON.stringify(cut({ severity, time, message, event, cut: 'all other fields were too large' }, 1_024, 20, 2)) + '\n'
}

function cut (value: unknown, text: number, members: number, depth: number): unknown {
  if (typeof value === 'string') return cutText(value, text)
  if (typeof value !== 'object' || value === null) return value
  if (depth === 0) return '… (cut)'
  if (Array.isArray(value)) {
    const kept = value.slice(0, members).map(one => cut(one, text, members, depth - 1))
    return value.length > members ? [...kept, `… (cut, ${value.length} members)`] : kept
  }
  const all = Object.entries(value)
  const kept = all.slice(0, members).map(([name, one]) => [name.slice(0, text), cut(one, text, members, depth - 1)])
  return Object.fromEntries(all.length > members ? [...kept, ['…', `cut, ${all.length} members`]] : kept)
}

function cutText (text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max)}… (cut, ${text.length} characters)`
}
