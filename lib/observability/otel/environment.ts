import { randomUUID } from 'node:crypto'
import type { CloudRun } from '../../google/cloud-run.ts'

/**
 * Settings of the metrics export, from OpenTelemetry's environment variables
 * (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables).
 */
export interface TelemetrySettings {
  /** URL of the collector that the environment names. undefined: metrics go to Google's Telemetry API, on Cloud Run. */
  readonly collector: string | undefined
  /** URL of Google's Telemetry API. */
  readonly google: string
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
  const interval = Number(env.OTEL_METRIC_EXPORT_INTERVAL)
  return {
    collector: trimmed(env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) ?? (endpoint && metricsBelow(endpoint)),
    google: metricsBelow(trimmed(env.GOOGLE_CLOUD_TELEMETRY_ENDPOINT) ?? GOOGLE_TELEMETRY),
    interval: interval > 0 ? Math.max(MIN_INTERVAL, interval) : INTERVAL
  }
}

/**
 * Attributes of the resource that sends the metrics. Cloud Monitoring takes no metrics without project, location, job
 * and instance, and mixes up instances whose attributes are equal. The environment's attributes win. Only on Cloud Run
 * the instance's id does: the environment is the same for all instances.
 */
export function resourceAttributes (cloudRun: CloudRun | undefined, env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const instance = { 'service.instance.id': cloudRun?.instance ?? randomUUID() }
  if (cloudRun === undefined) return { ...instance, ...environmentAttributes(env) }
  return { ...cloudRunAttributes(cloudRun), ...environmentAttributes(env), ...instance }
}

function cloudRunAttributes ({ project, region, service, revision, instance }: CloudRun): Record<string, string> {
  return {
    ...project !== undefined && { 'gcp.project_id': project, 'cloud.account.id': project },
    'cloud.provider': 'gcp',
    'cloud.platform': 'gcp_cloud_run',
    ...region !== undefined && { 'cloud.region': region },
    'faas.name': service,
    'faas.version': revision,
    ...instance !== undefined && { 'faas.instance': instance },
    'service.name': service,
    'service.version': revision
  }
}

/**
 * Parses OTEL_RESOURCE_ATTRIBUTES (key=value,…, percent-encoded) and OTEL_SERVICE_NAME. If one of the pairs is
 * invalid, all are discarded, as the specification says.
 */
function environmentAttributes (env: NodeJS.ProcessEnv): Record<string, string> {
  const { OTEL_RESOURCE_ATTRIBUTES: list = '', OTEL_SERVICE_NAME: name } = env
  const pairs = list.split(',').filter(pair => pair.trim() !== '').map(pair => pair.split('='))
  const service = name ? { 'service.name': name } : {}
  if (pairs.some(pair => pair.length !== 2)) return service
  try {
    return { ...Object.fromEntries(pairs.map(pair => pair.map(part => decodeURIComponent(part.trim())))), ...service }
  } catch {
    return service // a part cannot be decoded
  }
}

/** Returns undefined for a variable that is empty: the specification treats it as not set. */
function trimmed (value: string | undefined): string | undefined {
  return value?.trim() || undefined
}

function metricsBelow (endpoint: string): string {
  return `${endpoint.replace(/\/$/, '')}/v1/metrics`
}
