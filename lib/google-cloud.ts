/** Where this process runs on Cloud Run. */
export interface CloudRun {
  /** K_SERVICE */
  readonly service: string
  /** K_REVISION */
  readonly revision: string
  /** K_CONFIGURATION */
  readonly configuration: string
  /** Project id, and region such as 'us-central1'; undefined when the metadata server did not answer in time. */
  readonly project: string | undefined
  readonly region: string | undefined
  /** Of this one instance; by it two instances of a revision are told apart. */
  readonly instance: string | undefined
}

/** ms that the metadata server may take; it answers within a few. */
const METADATA_TIMEOUT = 800

/**
 * What Cloud Run's environment and its metadata server say (docs.cloud.google.com/run/docs/container-contract). Elsewhere undefined, and
 * nobody is asked. Never rejects: what stays unknown is undefined.
 */
export async function detectCloudRun (env: NodeJS.ProcessEnv = process.env): Promise<CloudRun | undefined> {
  const { K_SERVICE: service, K_REVISION: revision = '', K_CONFIGURATION: configuration = '', GOOGLE_CLOUD_PROJECT } = env
  if (service === undefined || service === '') return undefined
  const [project, region, instance] = await Promise.all([
    GOOGLE_CLOUD_PROJECT || metadata('project/project-id', env),
    metadata('instance/region', env),
    metadata('instance/id', env)
  ])
  // The region comes as 'projects/NUMBER/regions/REGION'.
  return { service, revision, configuration, project, region: region?.split('/').at(-1), instance }
}

async function metadata (path: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const host = env.GCE_METADATA_HOST || 'metadata.google.internal'
  try {
    const response = await fetch(`http://${host}/computeMetadata/v1/${path}`, { headers: { 'metadata-flavor': 'Google' }, signal: AbortSignal.timeout(METADATA_TIMEOUT) })
    return response.ok ? (await response.text()).trim() || undefined : undefined
  } catch {
    return undefined // not there, or too slow: what is unknown is left out
  }
}
