import { metrics } from '@opentelemetry/api'
import type { MeterProvider } from '@opentelemetry/api'
import type { MetricReader } from '@opentelemetry/sdk-metrics'
import type { NodeSDK } from '@opentelemetry/sdk-node'
import { CredentialsError, googleHeaders } from '../../google/credentials.ts'
import type { GoogleHeaders } from '../../google/credentials.ts'
import type { Platform } from '../../google/platform.ts'
import { attributesOf } from '../../google/resource.ts'
import { registeredProvider } from '../instruments.ts'
import { settledWithin, withTimeout } from '../../util/timeout.ts'
import { MIN_INTERVAL } from './environment.ts'
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
/** Milliseconds for finding the project by the credentials, which may start gcloud. */
const PROJECT_TIMEOUT = 10_000
/** What Google makes the label `location` of, which it requires. */
const LOCATION = ['location', 'cloud.availability_zone', 'cloud.region']

/** An OpenTelemetry SDK of ours that is the global one from `start` to `stop`. */
export class TelemetrySdk {
  readonly #sdk: NodeSDK
  readonly #reader: MetricReader
  readonly #url: string
  readonly #interval: number
  readonly #report: TelemetryReport
  #provider: MeterProvider | undefined
  #endProcessMetrics: (() => void) | undefined
  #exported = false

  constructor (sdk: NodeSDK, reader: MetricReader, url: string, interval: number, report: TelemetryReport) {
    this.#sdk = sdk
    this.#reader = reader
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

  /**
   * Exports once, now that an app is bound: its counters are at 0, or close to it. After a whole interval they would
   * not be, and what they had counted by then would never show as an increase.
   */
  exportFirst (): void {
    if (this.#exported) return
    this.#exported = true
    this.#reader.forceFlush().catch(() => {}) // an export that fails is reported where it fails
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
  settings: TelemetrySettings, platform: Platform | undefined, load: Load, report: TelemetryReport
): Promise<TelemetrySdk> {
  const { collector, google, interval } = settings
  const url = new URL(collector ?? google).href
  const { NodeSDK } = await load('@opentelemetry/sdk-node')
  const { PeriodicExportingMetricReader } = await load('@opentelemetry/sdk-metrics')
  const { OTLPMetricExporter } = await load('@opentelemetry/exporter-metrics-otlp-proto')
  const attributes = attributesOf(platform)
  const headers = collector === undefined && { headers: await identify(attributes, load) }
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
  const resourceDetectors = [{ detect: () => ({ attributes }) }]
  const sdk = new NodeSDK({ ...nothing, metricReaders: [reader], resourceDetectors })
  return new TelemetrySdk(sdk, reader, url, interval, report)
}

/** Completes the attributes by what Google has to know, and returns the headers by which it takes the metrics. */
async function identify (attributes: Record<string, string>, load: Load): Promise<GoogleHeaders> {
  if (!LOCATION.some(name => attributes[name] !== undefined)) {
    throw new Error('Google has to know the region. On Google Cloud the metadata server did not say it; elsewhere set ' +
      'OTEL_RESOURCE_ATTRIBUTES=cloud.region=REGION. Or set OTEL_EXPORTER_OTLP_ENDPOINT to the endpoint of a collector')
  }
  const library = await load('google-auth-library')
  attributes['gcp.project_id'] ??= await projectOfCredentials(library)
  return googleHeaders(library, attributes['gcp.project_id'])
}

/** Off Google Cloud, by application default credentials: those of a person name the project that is billed. */
async function projectOfCredentials ({ GoogleAuth }: Packages['google-auth-library']): Promise<string> {
  const auth = new GoogleAuth()
  const find = async () => {
    const { quotaProjectId } = await auth.getClient()
    return quotaProjectId ?? auth.getProjectId()
  }
  try {
    return process.env.GOOGLE_CLOUD_PROJECT || await withTimeout(find(), PROJECT_TIMEOUT, 'Nobody said which project this is')
  } catch (error) {
    throw new CredentialsError((error as Error).message, { cause: error })
  }
}
