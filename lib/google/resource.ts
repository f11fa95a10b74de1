import { randomUUID } from 'node:crypto'
import { detectPlatform, workloadOf } from './platform.ts'
import type { AppEngine, CloudRun, Gke, Platform } from './platform.ts'

/** Of this process, where no platform names it. */
const instanceOfProcess = randomUUID()

/**
 * Attributes for the resource of an OpenTelemetry SDK of your app's own: `resourceFromAttributes(await
 * resourceAttributes())`. Cloud Monitoring needs them to tell projects, locations, services and instances apart, and
 * the dashboards of this package look for them. On Cloud Run, GKE and App Engine flexible they come from the
 * environment and the metadata server; elsewhere from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. Never rejects:
 * what is unknown is left out.
 */
export async function resourceAttributes (): Promise<Record<string, string>> {
  const awaited = setInterval(() => {}, 60_000) // questions to a metadata server that is not up keep no process alive
  const platform = await detectPlatform()
  clearInterval(awaited)
  return attributesOf(platform)
}

/**
 * Attributes of the resource that sends metrics. Google makes labels of them: location, cluster, namespace, job and
 * instance (docs.cloud.google.com/stackdriver/docs/reference/telemetry/v1.metrics). It refuses points without location
 * or instance, and mixes up instances whose labels are equal. The environment's attributes win, but not for the
 * instance on Cloud Run and App Engine: there the environment is the same for all instances.
 */
export function attributesOf (platform: Platform | undefined, env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const given = environmentAttributes(env)
  const { 'service.instance.id': own = instanceOfProcess, ...known } = platform === undefined ? {} : detected(platform)
  const instance = { 'service.instance.id': own }
  return platform === undefined || platform.name === 'gke' ? { ...known, ...instance, ...given } : { ...known, ...given, ...instance }
}

function detected (platform: Platform): Record<string, string> {
  const { project } = platform
  return defined({ 'gcp.project_id': project, 'cloud.account.id': project, 'cloud.provider': 'gcp', ...own(platform) })
}

/** By OpenTelemetry's conventions (opentelemetry.io/docs/specs/semconv/resource/cloud-provider/gcp). */
function own (platform: Platform): Record<string, string | undefined> {
  switch (platform.name) {
    case 'cloud_run': return { 'cloud.platform': 'gcp_cloud_run', 'cloud.region': platform.region, ...serverless(platform, platform.revision) }
    case 'app_engine': return onAppEngine(platform)
    case 'gke': return onGke(platform)
  }
}

function serverless ({ service, instance }: CloudRun | AppEngine, version: string): Record<string, string | undefined> {
  return {
    'faas.name': service,
    'faas.version': version,
    'faas.instance': instance,
    'service.name': service,
    'service.version': version,
    'service.instance.id': instance
  }
}

/**
 * Google knows no cluster for App Engine, so that one is named as those of Cloud Run (`__run__`) and Compute Engine
 * are. The zone is left out: it would become the location, and a service whose instances are in three zones would fall
 * apart.
 */
function onAppEngine (platform: AppEngine): Record<string, string | undefined> {
  const region = platform.zone?.replace(/-[^-]*$/, '')
  return { 'cloud.platform': 'gcp_app_engine', 'cloud.region': region, cluster: '__gae__', ...serverless(platform, platform.version) }
}

function onGke ({ cluster, location, namespace, pod }: Gke): Record<string, string | undefined> {
  const zonal = location?.split('-').length === 3
  return {
    'cloud.platform': 'gcp_kubernetes_engine',
    [zonal ? 'cloud.availability_zone' : 'cloud.region']: location,
    'k8s.cluster.name': cluster,
    'k8s.namespace.name': namespace,
    'k8s.pod.name': pod,
    'service.name': workloadOf(pod),
    'service.instance.id': pod
  }
}

function defined (attributes: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).filter((entry): entry is [string, string] => entry[1] !== undefined))
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
