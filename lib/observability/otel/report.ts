import type { PushMetricExporter } from '@opentelemetry/sdk-metrics'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { CredentialsError } from '../../google/credentials.ts'
import type { Logs } from '../logs.ts'

export const API = '@opentelemetry/api'
const RESPONSES = 'http.client.response.finish'

const FORBIDDEN_BY_GOOGLE = "permission denied (403). Grant the service's account roles/telemetry.metricsWriter and roles/serviceusage.serviceUsageConsumer (gcloud projects add-iam-policy-binding PROJECT --member=serviceAccount:ACCOUNT --role=roles/telemetry.metricsWriter), and run gcloud services enable telemetry.googleapis.com"

/** Why metrics do not arrive. */
type TelemetryCause =
  'package' | 'setup' | 'credentials' | 'unauthenticated' | 'forbidden' | 'rate_limit' | 'refused' | 'unavailable' | 'no_answer' | 'flush'

interface TelemetryFailure {
  readonly cause: TelemetryCause
  /** HTTP status of the answer, if there was one. */
  readonly status?: number | undefined
  /** The problem, and what to do about it. */
  readonly text: string
}

/** Logs each cause once, until all metrics arrive again. */
export class TelemetryReport {
  readonly #logs: Logs
  readonly #reported = new Set<TelemetryCause>()

  constructor (logs: Logs) {
    this.#logs = logs
  }

  started (url: string, interval: number): void {
    this.#logs.telemetryStarted(url, interval)
  }

  failed ({ cause, status, text }: TelemetryFailure): void {
    if (this.#reported.has(cause)) return
    this.#reported.add(cause)
    this.#logs.telemetryFailed(cause, status, text)
  }

  arrived (): void {
    if (this.#reported.size === 0) return
    this.#reported.clear()
    this.#logs.telemetryRecovered()
  }
}

/**
 * Wraps an exporter so that its results are reported. The reader splits an export that is too large for one request
 * into batches, and exports them one right after the other.
 */
export function reported (exporter: PushMetricExporter, url: string, google: boolean, report: TelemetryReport): PushMetricExporter {
  const { host, pathname, search } = new URL(url)
  // From the diagnostics channel: the exporter's error has no status after 429, 502, 503 and 504, which it retries.
  let status: number | undefined
  let exporting = false
  let whole = true
  const answered = (message: unknown): void => {
    const { request, response } = message as { request: ClientRequest, response: IncomingMessage }
    if (request.path === pathname + search && request.getHeader('host') === host) status = response.statusCode
  }
  return {
    export (data, done) {
      status = undefined
      exporting = true
      subscribe(RESPONSES, answered)
      exporter.export(data, result => {
        unsubscribe(RESPONSES, answered)
        exporting = false
        if (result.code !== 0) {
          whole = false
          report.failed(exportFailure(result.error, status, url, google))
        }
        done(result)
        setImmediate(() => {
          if (exporting) return // the next batch
          if (whole) report.arrived()
          whole = true
        })
      })
    },
    forceFlush: () => exporter.forceFlush(),
    shutdown: () => exporter.shutdown(),
    selectAggregation: type => exporter.selectAggregation!(type),
    selectAggregationTemporality: type => exporter.selectAggregationTemporality!(type)
  }
}

/** With the API, so that npm chooses all of them for each other, and for this Node.js. */
export function neededPackages (google: boolean): readonly string[] {
  const all = [API, '@opentelemetry/sdk-node', '@opentelemetry/sdk-metrics', '@opentelemetry/exporter-metrics-otlp-proto']
  return google ? [...all, 'google-auth-library'] : all
}

export const setupFailure = (error: unknown, packages: readonly string[]): TelemetryFailure => {
  if (error instanceof CredentialsError) return credentialsFailure(error.message)
  const { code, message } = error as { code?: string, message?: string }
  // An error that comes through a loader in a thread of its own has lost its code.
  const missing = code === 'ERR_MODULE_NOT_FOUND' || /^Cannot find (?:package|module) /.test(message ?? '')
  return missing
    ? { cause: 'package', text: `a package is missing. Run: npm install ${packages.join(' ')}; or set the option telemetry to false` }
    : { cause: 'setup', text: message ?? String(error) }
}

const NO_WAY_TO_GOOGLE = 'Check the egress of the service: it has to reach Google APIs'
const NO_COLLECTOR = 'Is the collector running, and does it accept OTLP over HTTP there?'

function credentialsFailure (reason: string): TelemetryFailure {
  const text = `no Google credentials: ${reason}. On Cloud Run and App Engine, give the service a service account; on GKE, the pod, by ` +
    'Workload Identity Federation; elsewhere, set GOOGLE_APPLICATION_CREDENTIALS and GOOGLE_CLOUD_PROJECT'
  return { cause: 'credentials', text }
}

/** Describes why an export failed, by the status of the last answer, or by the error if there was none. */
function exportFailure (error: Error | undefined, status: number | undefined, url: string, google: boolean): TelemetryFailure {
  const reason = error?.message ?? 'no reason given'
  if (error instanceof CredentialsError) return credentialsFailure(reason)
  if (status === undefined) {
    return { cause: 'no_answer', text: `no answer from ${url} (${reason}). ${google ? NO_WAY_TO_GOOGLE : NO_COLLECTOR}` }
  }
  if (status === 401) {
    const advice = google ? 'Check the service account' : 'Set OTEL_EXPORTER_OTLP_HEADERS'
    return { cause: 'unauthenticated', status, text: `${url} does not accept the credentials (401). ${advice}` }
  }
  if (status === 403) return { cause: 'forbidden', status, text: google ? FORBIDDEN_BY_GOOGLE : `${url} denies permission (403)` }
  if (status === 429) {
    return { cause: 'rate_limit', status, text: `${url} accepts no more for now (429). Raise OTEL_METRIC_EXPORT_INTERVAL, or the quota` }
  }
  if (status >= 500) {
    const text = `${url} is unavailable (${status}). Nothing to do here: the next export tries again, and counters lose nothing`
    return { cause: 'unavailable', status, text }
  }
  const answer = (error as { data?: string } | undefined)?.data || reason
  return { cause: 'refused', status, text: `${url} refuses what is sent (${status}): ${answer}`.slice(0, 1_000) }
}
