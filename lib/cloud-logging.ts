import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { LoggerOptions } from 'pino'
import { boundLabels, boundLine, errorFields, httpRequest, LABELS, traceFields } from './cloud-entry.ts'
import { detectCloudRun } from './google-cloud.ts'
import { readTrace } from './trace-context.ts'
import type { TraceContext } from './trace-context.ts'

export interface CloudLoggingOptions {
  /**
   * Id of the Google Cloud project, by which entries find their trace. Default: env GOOGLE_CLOUD_PROJECT; else, on Cloud Run, what
   * the metadata server says, from the moment it has answered. Entries without a project have no trace.
   */
  project?: string | undefined
  /** Service and version under which Error Reporting shows errors. Default: env K_SERVICE and K_REVISION. */
  service?: string | undefined
  version?: string | undefined
  /** Labels of every entry; an entry has at most 64, its own go first. Default: none. */
  labels?: Record<string, string> | undefined
}

/** Options of pino, to be given to Fastify as they are, or with more (`level`, `redact`, …). */
export type CloudLoggerOptions = Required<Pick<LoggerOptions, 'messageKey' | 'timestamp' | 'formatters' | 'mixin' | 'mixinMergeStrategy' | 'hooks'>> & { base: null }

/** Key of the trace of an entry, and of a request's own logger. pino writes no field whose name is a symbol. */
export const requestTrace = Symbol('trace of the request')
interface Traced { [requestTrace]?: TraceContext | undefined }

/** Where every version and copy of pino keeps its formatters. */
const formatters = Symbol.for('pino.formatters')

/** pino's level from which on an entry is an error. */
const ERROR = 50
const severities = [['CRITICAL', 60], ['ERROR', ERROR], ['WARNING', 40], ['INFO', 30]] as const

/**
 * The logger options with which all entries of an app have the form that Cloud Logging reads from stdout, request logs included:
 * `Fastify({ logger: cloudLogging() })`.
 */
export function cloudLogging (options: CloudLoggingOptions = {}): CloudLoggerOptions {
  const { service = process.env.K_SERVICE, version = process.env.K_REVISION, labels } = options
  let project = options.project || process.env.GOOGLE_CLOUD_PROJECT || undefined
  // Nothing waits for it, it never rejects, and elsewhere nobody is asked.
  if (project === undefined) detectCloudRun().then(run => { project = run?.project })
  return {
    messageKey: 'message',
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: severity },
    mixin: (given, level, logger) => {
      const { err, [LABELS]: own, req, res, responseTime, ...fields } = given as Record<string, unknown>
      const request = [req, (res as Partial<FastifyReply> | undefined)?.request].find(isRequest)
      const trace = (given as Traced)[requestTrace] ?? (logger as Traced)[requestTrace] ?? (request && readTrace(request.headers))
      return {
        ...fields,
        ...(request === undefined ? { req, res, responseTime } : { httpRequest: httpRequest(request, (res as FastifyReply | undefined)?.statusCode, responseTime as number | undefined) }),
        err,
        ...traceFields(trace, project),
        [LABELS]: own === undefined && labels === undefined ? undefined : boundLabels({ ...own as object, ...labels }),
        ...(level >= ERROR && errorFields(err, { service, version }))
      }
    },
    mixinMergeStrategy: (_given, entry) => entry,
    hooks: { streamWrite: boundLine }
  }
}

/** Whether this logger was made with `cloudLogging()`. */
export function isCloudLogger (log: FastifyBaseLogger): boolean {
  return (log as { [formatters]?: { level?: unknown } })[formatters]?.level === severity
}

/** What a handler logs with `request.log` belongs to the request's trace; what Fastify logs itself brings the request along. */
export function traceRequests (app: FastifyInstance): void {
  if (!isCloudLogger(app.log)) return
  app.addHook('onRequest', (request, _reply, done) => {
    const trace = readTrace(request.headers)
    if (trace !== undefined) Object.assign(request.log, { [requestTrace]: trace })
    done()
  })
}

/** By pino's numbers, so that levels of the host's own have one too. */
function severity (_label: string, level: number): { severity: string } {
  return { severity: severities.find(([, from]) => level >= from)?.[0] ?? 'DEBUG' }
}

/** Fastify logs `req` when a request comes, and `res` with `responseTime` when it is answered; a host may use these names for anything. */
function isRequest (value: unknown): value is FastifyRequest {
  const { headers, url } = (value ?? {}) as Partial<FastifyRequest>
  return typeof headers === 'object' && typeof url === 'string'
}
