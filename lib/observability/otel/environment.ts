/**
 * Settings of the metrics export, from OpenTelemetry's environment variables
 * (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables).
 */
export interface TelemetrySettings {
  /** URL of the collector that the environment names. undefined: metrics go to Google's Telemetry API. */
  readonly collector: string | undefined
  /** URL of Google's Telemetry API. */
  readonly google: string
  /** Whether the environment names Google's API. Then metrics go there from anywhere, else from Google Cloud only. */
  readonly anywhere: boolean
  /** Milliseconds between two exports. */
  readonly interval: number
}

const GOOGLE_TELEMETRY = 'https://telemetry.googleapis.com'
/** Milliseconds. Cloud Monitoring refuses points of a series that are closer to each other. */
export const MIN_INTERVAL = 10_000
const INTERVAL = 60_000

/** Returns undefined if the environment turns the export of metrics off. */
export function telemetrySettings (env: NodeJS.ProcessEnv = process.env): TelemetrySettings | undefined {
  if (env.OTEL_SDK_DISABLED?.trim().toLowerCase() === 'true') return undefined
  const exporters = (env.OTEL_METRICS_EXPORTER ?? '').split(',').map(exporter => exporter.trim()).filter(exporter => exporter !== '')
  if (exporters.length > 0 && !exporters.includes('otlp')) return undefined
  const endpoint = trimmed(env.OTEL_EXPORTER_OTLP_ENDPOINT)
  const target = trimmed(env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) ?? (endpoint && metricsBelow(endpoint))
  const anywhere = target !== undefined && isGoogle(target)
  const interval = Number(env.OTEL_METRIC_EXPORT_INTERVAL)
  return {
    collector: anywhere ? undefined : target,
    google: anywhere ? target : metricsBelow(trimmed(env.GOOGLE_CLOUD_TELEMETRY_ENDPOINT) ?? GOOGLE_TELEMETRY),
    anywhere,
    interval: interval > 0 ? Math.max(MIN_INTERVAL, interval) : INTERVAL
  }
}

/** Returns undefined for a variable that is empty: the specification treats it as not set. */
function trimmed (value: string | undefined): string | undefined {
  return value?.trim() || undefined
}

function metricsBelow (endpoint: string): string {
  return `${endpoint.replace(/\/$/, '')}/v1/metrics`
}

/** Also private and regional addresses. Never without TLS: the request has a token. */
function isGoogle (url: string): boolean {
  if (!URL.canParse(url)) return false // said when the SDK starts
  const { protocol, hostname } = new URL(url)
  return protocol === 'https:' && hostname.endsWith('.googleapis.com')
}
