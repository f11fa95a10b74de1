import { metrics } from '@opentelemetry/api'
import type { MeterProvider } from '@opentelemetry/api'
import type { NodeSDK } from '@opentelemetry/sdk-node'
import type { CloudRun } from '../../google/cloud-run.ts'
import { googleHeaders } from '../../google/credentials.ts'
import type { GoogleHeaders } from '../../google/credentials.ts'
import { registeredProvider } from '../instruments.ts'
import { settledWithin } from '../../util/timeout.ts'
import { MIN_INTERVAL, resourceAttributes } from './environment.ts'
import type { TelemetrySettings } from './environment.ts'
import { observeProcess } from './process-metrics.ts'
import { reported } from './report.ts'
import type { TelemetryReport } from './report.ts'

/**
 * Optional peer dependencies. Importing them takes some tenths of a second, and an app that exports nothing need not
 * install them.
 */
export interface Packages {
  '@opentelemetry/sdk-node': typeof import('@opentelemetry/sdk-node')
  '@opentelemetry/sdk-metrics': typeof import('@opentelemetry/sdk-metrics')
  '@opentelemetry/exporter-metrics-otlp-proto': typeof import('@opentelemetry/exporter-metrics-otlp-proto')
  'google-auth-library': typeof import('google-auth-library')
}
export type Load = <Name extends keyof Packages>(name: Name) => Promise<Packages[Name]>

/** Points that Cloud Monitoring takes in one request (docs.cloud.google.com/stackdriver/quotas). */
const MAX_POINTS = 200
/** Milliseconds for one export with all its attempts. */
const EXPORT_TIMEOUT = 5_000

/** An OpenTelemetry SDK of ours that is the global one from `start` to `stop`. */
export class TelemetrySdk {
  readonly #sdk: NodeSDK
  readonly #url: string
  readonly #interval: number
  readonly #report: TelemetryReport
  #provider: MeterProvider | undefined
  #endProcessMetrics: (() => void) | undefined

  constructor (sdk: NodeSDK, url: string, interval: number, report: TelemetryReport) {
    this.#sdk = sdk
    this.#url = url
    this.#interval = interval
    this.#report = report
  }

  /** Registers the SDK. @throws if the API does not take it. */
  start (): void {
    this.#sdk.start()
    this.#provider = registeredProvider()
    if (this.#provider === undefined) throw new Error('OpenTelemetry did not accept the SDK. Is there more than one @opentelemetry/api in node_modules? See npm ls @opentelemetry/api')
    this.#endProcessMetrics = observeProcess(this.#provider)
    this.#report.started(this.#url, this.#interval)
  }

  /** Sends what there is, within `budget` ms. */
  async stop (budget: number): Promise<void> {
    // An export that fails is reported where it fails.
    if (!await settledWithin(this.#sdk.shutdown(), budget)) {
      this.#report.failed({ cause: 'flush', text: `${this.#url} did not accept the last values within ${Math.round(budget)} ms` })
    }
    this.#endProcessMetrics?.()
    if (metrics.getMeterProvider() === this.#provider) metrics.disable()
  }
}

/**
 * Imports what is needed, which blocks the event loop for some tenths of a second. @throws if a package is missing,
 * or what Google has to know is not known
 */
export async function createSdk (
  settings: TelemetrySettings, cloudRun: CloudRun | undefined, load: Load, report: TelemetryReport
): Promise<TelemetrySdk> {
  const { collector, google, interval } = settings
  const url = new URL(collector ?? google).href
  const { NodeSDK } = await load('@opentelemetry/sdk-node')
  const { PeriodicExportingMetricReader } = await load('@opentelemetry/sdk-metrics')
  const { OTLPMetricExporter } = await load('@opentelemetry/exporter-metrics-otlp-proto')
  const headers = collector === undefined && { headers: await headersFor(cloudRun, load) }
  const exporter = new OTLPMetricExporter({ url, timeoutMillis: EXPORT_TIMEOUT, ...headers })
  const reader = new PeriodicExportingMetricReader({
    exporter: reported(exporter, url, collector === undefined, report),
    exportIntervalMillis: interval,
    exportTimeoutMillis: MIN_INTERVAL,
    maxExportBatchSize: MAX_POINTS
  })
  // Empty lists and null: nothing but metrics, whatever the environment says of the rest. The detector does without a
  // class of the SDK's, of which 2 and 3 have different ones.
  const nothing = {
    spanProcessors: [], logRecordProcessors: [], instrumentations: [], textMapPropagator: null, contextManager: null as never
  }
  const resourceDetectors = [{ detect: () => ({ attributes: resourceAttributes(cloudRun) }) }]
  const sdk = new NodeSDK({ ...nothing, metricReaders: [reader], resourceDetectors })
  return new TelemetrySdk(sdk, url, interval, report)
}

async function headersFor (cloudRun: CloudRun | undefined, load: Load): Promise<GoogleHeaders> {
  if (cloudRun?.project === undefined || cloudRun.region === undefined) {
    throw new Error('the metadata server does not say which project and region this is. Set OTEL_EXPORTER_OTLP_ENDPOINT to the endpoint of a collector')
  }
  return googleHeaders(await load('google-auth-library'), cloudRun.project)
}
