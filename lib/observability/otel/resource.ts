import { randomUUID } from 'node:crypto'
import type { CloudRun } from '../../google/cloud-run.ts'

/**
 * Who sends the metrics. Cloud Monitoring takes none without project, location, job and instance, and mixes up
 * instances that say the same. What the environment says goes before, except for the instance on Cloud Run: the
 * environment is the same for all of them.
 */
export function resourceAttributes (cloudRun: CloudRun | undefined, env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const instance = { 'service.instance.id': cloudRun?.instance ?? randomUUID() }
  if (cloudRun === undefined) return { ...instance, ...fromEnvironment(env) }
  return { ...ofCloudRun(cloudRun), ...fromEnvironment(env), ...instance }
}

function ofCloudRun ({ project, region, service, revision, instance }: CloudRun): Record<string, string> {
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
 * Of OTEL_RESOURCE_ATTRIBUTES (key=value,…, percent-encoded), which counts as a whole or not at all, and
 * OTEL_SERVICE_NAME.
 */
function fromEnvironment ({ OTEL_RESOURCE_ATTRIBUTES: list = '', OTEL_SERVICE_NAME: name }: NodeJS.ProcessEnv): Record<string, string> {
  const pairs = list.split(',').filter(pair => pair.trim() !== '').map(pair => pair.split('='))
  const service = name ? { 'service.name': name } : {}
  if (pairs.some(pair => pair.length !== 2)) return service
  try {
    return { ...Object.fromEntries(pairs.map(pair => pair.map(text => decodeURIComponent(text.trim())))), ...service }
  } catch {
    return service // the specification has us discard what can not be decoded
  }
}
