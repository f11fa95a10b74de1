import { metrics } from '@opentelemetry/api'
import type { MeterProvider } from '@opentelemetry/api'
import type { metrics as sdkMetrics, NodeSDK, resources } from '@opentelemetry/sdk-node'
import { randomUUID } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientRequest, IncomingMessage } from 'node:http'
import type { CloudRun } from './google-cloud.ts'
import { googleHeaders } from './google-token.ts'
import type { GoogleHeaders } from './google-token.ts'
import { registeredProvider } from './instruments.ts'
import { observeProcess } from './process-metrics.ts'
import { exportFailure } from './telemetry-report.ts'
import type { TelemetryReport } from './telemetry-report.ts'
import { MIN_INTERVAL } from './telemetry-settings.ts'
import type { TelemetrySettings } from './telemetry-settings.ts'

/** Optional peer dependencies: importing them takes some tenths of a second, and who exports nothing need not install them. */
export interface Packages {
  '@opentelemetry/sdk-node': typeof import('@opentelemetry/sdk-node')
  '@opentelemetry/exporter-metrics-otlp-proto': typeof import('@opentelemetry/exporter-metrics-otlp-proto')
  'google-auth-library': typeof import('google-auth-library')
}
export type Load = <Name extends keyof Packages>(name: Name) => Promise<Packages[Name]>
export const load: Load = name => import(name)

/** What Cloud Monitoring takes in one request (docs.cloud.google.com/stackdriver/quotas). */
const MAX_POINTS = 200
/** ms for one export with all its attempts. */
const EXPORT_TIMEOUT = 5_000

export function neededPackages (google: boolean): readonly (keyof Packages)[] {
  return ['@opentelemetry/sdk-node', '@opentelemetry/exporter-metrics-otlp-proto', ...google ? ['google-auth-library'] as const : []]
}

/** An OpenTelemetry SDK of ours, for metrics alone, that is the global one from `start` to `stop`. */
export class TelemetrySdk {
  readonly #sdk: NodeSDK
  readonly #report: TelemetryReport
  readonly #settings: TelemetrySettings
  readonly #url: string
  readonly #target: { readonly host: string, readonly path: string }
  #provider: MeterProvider | undefined
  #endProcessMetrics: (() => void) | undefined
  /** Of the answer to the last attempt: an exporter that has given up does not say it. */
  #status: number | undefined

  constructor (sdk: Packages['@opentelemetry/sdk-node'], exporter: sdkMetrics.PushMetricExporter, resource: resources.Resource, settings: TelemetrySettings, url: string, report: TelemetryReport) {
    this.#settings = settings
    this.#url = url
    const { host, pathname, search } = new URL(url)
    this.#target = { host, path: pathname + search }
    this.#report = report
    const reader = new sdk.metrics.PeriodicExportingMetricReader({
      exporter: this.#watched(exporter), exportIntervalMillis: settings.interval, exportTimeoutMillis: MIN_INTERVAL, maxExportBatchSize: MAX_POINTS
    })
    // Empty lists and null: nothing but metrics, whatever the environment says of the rest.
    this.#sdk = new sdk.NodeSDK({
      resource, autoDetectResources: false, metricReaders: [reader], spanProcessors: [], logRecordProcessors: [], instrumentations: [], textMapPropagator: null, contextManager: null as never
    })
  }

  start (): void {
    subscribe('http.client.response.finish', this.#answered)
    this.#sdk.start()
    this.#provider = registeredProvider()
    if (this.#provider === undefined) throw new Error('OpenTelemetry did not take the SDK: is there one @opentelemetry/api in node_modules, and one that the SDK knows?')
    this.#endProcessMetrics = observeProcess(this.#provider)
    this.#report.started(this.#url, this.#settings.interval)
  }

  /** Sends what there is, within `budget` ms. */
  async stop (budget: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>(resolve => {
      timer = setTimeout(() => {
        this.#report.failed({ cause: 'flush', text: `${this.#url} did not take the last values within ${Math.round(budget)} ms` })
        resolve()
      }, budget)
    })
    // What an export fails of is reported where it fails.
    await Promise.race([this.#sdk.shutdown().catch(() => {}), late])
    clearTimeout(timer)
    this.#endProcessMetrics?.()
    unsubscribe('http.client.response.finish', this.#answered)
    if (metrics.getMeterProvider() === this.#provider) metrics.disable()
  }

  readonly #answered = (message: unknown): void => {
    const { request, response } = message as { request: ClientRequest, response: IncomingMessage }
    const { host, path } = this.#target
    if (request.path === path && request.getHeader('host') === host) this.#status = response.statusCode
  }

  /** The same exporter, whose results are reported. */
  #watched (exporter: sdkMetrics.PushMetricExporter): sdkMetrics.PushMetricExporter {
    return {
      export: (data, done) => {
        this.#status = undefined
        exporter.export(data, result => {
          if (result.code === 0) this.#report.arrived()
          else this.#report.failed(exportFailure(result.error, this.#status, this.#url, this.#settings.collector === undefined))
          done(result)
        })
      },
      forceFlush: () => exporter.forceFlush(),
      shutdown: () => exporter.shutdown(),
      selectAggregation: type => exporter.selectAggregation!(type),
      selectAggregationTemporality: type => exporter.selectAggregationTemporality!(type)
    }
  }
}

/** Imports what is needed, which blocks the event loop for some tenths of a second. @throws if a package is missing, or what Google has to know is not known */
export async function createSdk (settings: TelemetrySettings, cloudRun: CloudRun | undefined, load: Load, report: TelemetryReport): Promise<TelemetrySdk> {
  const { collector, google } = settings
  const url = new URL(collector ?? google).href
  const sdk = await load('@opentelemetry/sdk-node')
  const { OTLPMetricExporter } = await load('@opentelemetry/exporter-metrics-otlp-proto')
  const exporter = new OTLPMetricExporter({ url, timeoutMillis: EXPORT_TIMEOUT, ...collector === undefined && { headers: await headersFor(cloudRun, load) } })
  return new TelemetrySdk(sdk, exporter, describe(sdk, cloudRun), settings, url, report)
}

async function headersFor (cloudRun: CloudRun | undefined, load: Load): Promise<GoogleHeaders> {
  if (cloudRun?.project === undefined || cloudRun.region === undefined) {
    throw new Error('the metadata server does not say in which project and region this is. Set OTEL_EXPORTER_OTLP_ENDPOINT to that of a collector')
  }
  return googleHeaders(await load('google-auth-library'), cloudRun.project)
}

/** Cloud Monitoring takes no metrics without project, location, job and instance, and would mix up instances that say the same. */
function describe ({ resources }: Packages['@opentelemetry/sdk-node'], cloudRun: CloudRun | undefined): resources.Resource {
  const { resourceFromAttributes, defaultResource, detectResources, envDetector } = resources
  const instance = { 'service.instance.id': cloudRun?.instance ?? randomUUID() }
  const fromEnvironment = detectResources({ detectors: [envDetector] })
  if (cloudRun === undefined) return defaultResource().merge(resourceFromAttributes(instance)).merge(fromEnvironment)
  const { project, region, service, revision } = cloudRun
  return defaultResource().merge(resourceFromAttributes({
    'gcp.project_id': project,
    'cloud.provider': 'gcp',
    'cloud.account.id': project,
    'cloud.platform': 'gcp_cloud_run',
    'cloud.region': region,
    'faas.name': service,
    'faas.version': revision,
    'faas.instance': cloudRun.instance,
    'service.name': service,
    'service.version': revision
    // Of the environment, which is the same for all instances, not their id.
  })).merge(fromEnvironment).merge(resourceFromAttributes(instance))
}
