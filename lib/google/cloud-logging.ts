import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { LoggerOptions } from 'pino'
import { boundLabels, boundLine, errorFields, httpRequest, LABELS, traceFields } from './log-entry.ts'
import type { HttpRequest } from './log-entry.ts'
import type { TrustedProxies } from './client-address.ts'
import { detectPlatform, serviceOf } from './platform.ts'
import { readTrace } from './trace-context.ts'
import type { TraceContext } from './trace-context.ts'

export interface CloudLoggingOptions {
  /**
   * Id of the Google Cloud project, by which entries find their trace. Default: env GOOGLE_CLOUD_PROJECT; else, on
   * Cloud Run, GKE and App Engine, what the metadata server says, from the moment it has answered. Entries without a
   * project have no trace.
   */
  project?: string | undefined
  /**
   * Service and version under which Error Reporting shows errors. Default: env K_SERVICE and K_REVISION, or GAE_SERVICE
   * and GAE_VERSION; on Kubernetes OTEL_SERVICE_NAME, else the workload's name, without a version.
   */
  service?: string | undefined
  version?: string | undefined
  /** Labels of every entry; an entry has at most 64, its own go first. Default: none. */
  labels?: Record<string, string> | undefined
}

/** Options of pino, to be given to Fastify as they are, or with more (`level`, `redact`, …). */
export type CloudLoggerOptions = Required<Pick<LoggerOptions, 'messageKey' | 'timestamp' | 'formatters' | 'mixin' | 'mixinMergeStrategy' | 'hooks'>> & { base: null }

/** Key of the trace of an entry, and of a request's own logger. pino writes no field whose name is a symbol. */
export const requestTrace = Symbol('trace of the request')

/** By server: the app makes its logger before it registers the plugin, and Fastify logs a request ahead of hooks. */
const proxiesOf = new WeakMap<object, TrustedProxies>()

/** What is known of the fields of an entry; all others are your app's. */
interface Entry {
  [requestTrace]?: TraceContext | undefined
  [LABELS]?: Record<string, unknown>
  err?: unknown
  req?: unknown
  res?: Partial<FastifyReply> | undefined
  responseTime?: unknown
  httpRequest?: HttpRequest
}

/** Where every version and copy of pino keeps its formatters. */
const formatters = Symbol.for('pino.formatters')

/** pino's level from which on an entry is an error. */
const ERROR = 50
const severities = [['CRITICAL', 60], ['ERROR', ERROR], ['WARNING', 40], ['INFO', 30]] as const

/**
 * The logger options with which all entries of an app have the form that Cloud Logging reads from stdout, request
 * logs included: `Fastify({ logger: cloudLogging() })`.
 */
export function cloudLogging (options: CloudLoggingOptions = {}): CloudLoggerOptions {
  const own = serviceOf(process.env)
  const { service = own.service, version = own.version, labels } = options
  let project = options.project || process.env.GOOGLE_CLOUD_PROJECT || undefined
  // Nothing waits for it, it never rejects, and elsewhere nobody is asked.
  if (project === undefined) detectPlatform().then(platform => { project = platform?.project })
  return {
    messageKey: 'message',
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: severity },
    mixin: (given, level, logger) => {
      const entry: Entry = { ...given } // your app's object stays as it is
      const request = takeRequest(entry)
      const trace = entry[requestTrace] ?? (logger as Entry)[requestTrace] ?? (request && readTrace(request.headers))
      if (trace !== undefined) Object.assign(entry, traceFields(trace, project))
      if (labels !== undefined || entry[LABELS] !== undefined) entry[LABELS] = boundLabels({ ...entry[LABELS], ...labels })
      if (level >= ERROR) Object.assign(entry, errorFields(entry.err, { service, version }))
      return entry
    },
    mixinMergeStrategy: (_given, entry) => entry,
    hooks: { streamWrite: boundLine }
  }
}

/** Whether this logger was made with `cloudLogging()`. */
export function isCloudLogger (log: FastifyBaseLogger): boolean {
  return (log as { [formatters]?: { level?: unknown } })[formatters]?.level === severity
}

/**
 * What a handler logs with `request.log` belongs to the request's trace; what Fastify logs itself brings the request
 * along.
 */
export function traceRequests (app: FastifyInstance, trustedProxies: TrustedProxies): void {
  if (!isCloudLogger(app.log)) return
  proxiesOf.set(app.server, trustedProxies)
  app.addHook('onRequest', (request, _reply, done) => {
    const trace = readTrace(request.headers)
    // Your app may give its requests no logger of their own.
    if (trace !== undefined && request.log !== app.log) Object.assign(request.log, { [requestTrace]: trace })
    done()
  })
}

/** By pino's numbers, so that levels of your app's own have one too. */
function severity (_label: string, level: number): { severity: string } {
  return { severity: severities.find(([, from]) => level >= from)?.[0] ?? 'DEBUG' }
}

/**
 * Fastify logs `req` when a request comes, and `res` with `responseTime` when it is answered; both are one field
 * here. Your app may use these names for anything else.
 */
function takeRequest (entry: Entry): FastifyRequest | undefined {
  const { req, res, responseTime } = entry
  if (req === undefined && res === undefined) return undefined
  const request = [req, res?.request].find(isRequest)
  if (request === undefined) return undefined
  const trustedProxies = proxiesOf.get(request.server?.server) ?? 0
  entry.httpRequest = httpRequest(request, trustedProxies, res?.statusCode, responseTime as number | undefined)
  entry.req = entry.res = entry.responseTime = undefined
  return request
}

function isRequest (value: unknown): value is FastifyRequest {
  const { headers, url } = (value ?? {}) as Partial<FastifyRequest>
  return typeof headers === 'object' && typeof url === 'string'
}
