/**
 * What OpenTelemetry's environment variables say of metrics
 * (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables).
 */
export interface TelemetrySettings {
  /** Of the collector that the environment names; undefined: none, Google's Telemetry API where there is Google. */
  readonly collector: string | undefined
  /** Of Google's Telemetry API. */
  readonly google: string
  /** ms between two exports. */
  readonly interval: number
}

const GOOGLE_TELEMETRY = 'https://telemetry.googleapis.com'
/** ms. Cloud Monitoring refuses points of a series that are closer to each other. */
export const MIN_INTERVAL = 10_000
const INTERVAL = 60_000

/** undefined where metrics are not to be exported by us. */
export function telemetrySettings (env: NodeJS.ProcessEnv = process.env): TelemetrySettings | undefined {
  if (env.OTEL_SDK_DISABLED?.trim().toLowerCase() === 'true') return undefined
  const exporters = list(env.OTEL_METRICS_EXPORTER)
  if (exporters.length > 0 && !exporters.includes('otlp')) return undefined
  const interval = Number(env.OTEL_METRIC_EXPORT_INTERVAL)
  return {
    collector: text(env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) ?? below(text(env.OTEL_EXPORTER_OTLP_ENDPOINT)),
    google: below(text(env.GOOGLE_CLOUD_TELEMETRY_ENDPOINT) ?? GOOGLE_TELEMETRY),
    interval: interval > 0 ? Math.max(MIN_INTERVAL, interval) : INTERVAL
  }
}

function below (endpoint: string): string
function below (endpoint: string | undefined): string | undefined
function below (endpoint: string | undefined): string | undefined {
  return endpoint === undefined ? undefined : `${endpoint.replace(/\/$/, '')}/v1/metrics`
}

function text (value: string | undefined): string | undefined {
  return value?.trim() || undefined
}

function list (value: string | undefined): string[] {
  return (value ?? '').split(',').map(one => one.trim()).filter(one => one !== '')
}
