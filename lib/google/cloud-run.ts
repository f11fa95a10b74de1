import { get } from 'node:http'
import { text } from 'node:stream/consumers'

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
const METADATA_TRIES = 3

/**
 * What Cloud Run's environment and its metadata server say (docs.cloud.google.com/run/docs/container-contract).
 * Elsewhere undefined, and nobody is asked. Never rejects: what stays unknown is undefined.
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

/** By URL; what was answered once is asked no more. */
const answers = new Map<string, Promise<string | undefined>>()

async function metadata (path: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const url = `http://${env.GCE_METADATA_HOST || 'metadata.google.internal'}/computeMetadata/v1/${path}`
  const asked = answers.get(url) ?? ask(url)
  answers.set(url, asked)
  const answer = await asked
  if (answer === undefined) answers.delete(url)
  return answer
}

/**
 * Again where it was too late: what keeps this process from reading the answer (imports, at the start) is over then.
 */
async function ask (url: string, tries = METADATA_TRIES): Promise<string | undefined> {
  try {
    return await read(url)
  } catch (error) {
    const late = (error as { code?: string }).code === 'ABORT_ERR'
    return late && tries > 1 ? ask(url, tries - 1) : undefined // nobody is there: what is unknown is left out
  }
}

/** Not by `fetch`, whose first call loads more than the rest of a cold start may cost. */
function read (url: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const request = get(url, { headers: { 'metadata-flavor': 'Google' }, agent: false, signal: AbortSignal.timeout(METADATA_TIMEOUT) }, response => {
      text(response).then(body => resolve(response.statusCode === 200 ? body.trim() || undefined : undefined), reject)
    })
    request.on('error', reject)
  })
}
