import { readFile } from 'node:fs/promises'
import { metadata } from './metadata.ts'

/** What the environment alone tells: which of them it is, and that it is no other. A Kubernetes may be anybody's. */
export type PlatformKind = 'cloud_run' | 'app_engine' | 'kubernetes'

/** What stays unknown, because the metadata server did not say it in time, is undefined. */
interface Anywhere {
  /** Id of the Google Cloud project. */
  readonly project: string | undefined
}

export interface CloudRun extends Anywhere {
  readonly name: 'cloud_run'
  /** K_SERVICE */
  readonly service: string
  /** K_REVISION */
  readonly revision: string
  /** K_CONFIGURATION */
  readonly configuration: string
  /** Such as 'us-central1'. */
  readonly region: string | undefined
  /** Of this one instance; by it two instances of a revision are told apart. */
  readonly instance: string | undefined
}

/** The flexible environment; the standard environment has no WebSockets. */
export interface AppEngine extends Anywhere {
  readonly name: 'app_engine'
  /** GAE_SERVICE */
  readonly service: string
  /** GAE_VERSION */
  readonly version: string
  /** Such as 'us-central1-b'; instances of one version are in several. */
  readonly zone: string | undefined
  /** GAE_INSTANCE */
  readonly instance: string | undefined
}

export interface Gke extends Anywhere {
  readonly name: 'gke'
  readonly cluster: string
  /** Region of a regional cluster, zone of a zonal one. */
  readonly location: string | undefined
  readonly namespace: string | undefined
  readonly pod: string | undefined
}

export type Platform = CloudRun | AppEngine | Gke

/**
 * ms between two questions on Kubernetes. GKE's metadata server is a pod of its own, which serves a new pod only after
 * some seconds (docs.cloud.google.com/kubernetes-engine/docs/how-to/workload-identity).
 */
const PATIENCE = 1_000

/** Where Kubernetes puts the pod's namespace, unless its service account's token is not mounted. */
const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace'

/** Names that Kubernetes makes are of these characters (k8s.io/apimachinery/pkg/util/rand). */
const RANDOM = '[bcdfghjklmnpqrstvwxz2456789]'
/** What Kubernetes appends to the name of a Deployment, of a StatefulSet, and of a DaemonSet or ReplicaSet. */
const POD_SUFFIXES = [new RegExp(`-${RANDOM}{1,10}-${RANDOM}{5}$`), /-\d+$/, new RegExp(`-${RANDOM}{5}$`)]

/** Asks nobody. */
export function platformKind (env: NodeJS.ProcessEnv): PlatformKind | undefined {
  if (env.K_SERVICE) return 'cloud_run'
  if (env.GAE_SERVICE) return env.GAE_ENV === 'standard' ? undefined : 'app_engine'
  return env.KUBERNETES_SERVICE_HOST ? 'kubernetes' : undefined
}

/** Name and version of the service, as far as the environment tells them. On Kubernetes the workload's name. */
export function serviceOf (env: NodeJS.ProcessEnv): { service: string | undefined, version: string | undefined } {
  switch (platformKind(env)) {
    case 'cloud_run': return { service: env.K_SERVICE, version: env.K_REVISION }
    case 'app_engine': return { service: env.GAE_SERVICE, version: env.GAE_VERSION }
    case 'kubernetes': return { service: env.OTEL_SERVICE_NAME || workloadName(env), version: undefined }
    default: return { service: undefined, version: undefined }
  }
}

/**
 * Where this process runs on Google Cloud, by the environment and the metadata server. Elsewhere undefined, and nobody
 * is asked, but for a Kubernetes: only the server tells whether it is Google's. Then it takes ten seconds at the most.
 * Never rejects.
 */
export async function detectPlatform (env: NodeJS.ProcessEnv = process.env, patience: number = PATIENCE): Promise<Platform | undefined> {
  switch (platformKind(env)) {
    case 'cloud_run': return onCloudRun(env)
    case 'app_engine': return onAppEngine(env)
    case 'kubernetes': return onGke(env, patience)
    default: return undefined
  }
}

/** docs.cloud.google.com/run/docs/container-contract */
async function onCloudRun (env: NodeJS.ProcessEnv): Promise<CloudRun> {
  const { K_SERVICE: service = '', K_REVISION: revision = '', K_CONFIGURATION: configuration = '' } = env
  const [project, region, instance] = await Promise.all([projectOf(env), metadata('instance/region', env), metadata('instance/id', env)])
  return { name: 'cloud_run', service, revision, configuration, project, region: lastPart(region), instance }
}

/** docs.cloud.google.com/appengine/docs/flexible/nodejs/runtime */
async function onAppEngine (env: NodeJS.ProcessEnv): Promise<AppEngine> {
  const { GAE_SERVICE: service = '', GAE_VERSION: version = '', GAE_INSTANCE } = env
  const [project, zone, instance] = await Promise.all([
    projectOf(env), metadata('instance/zone', env), GAE_INSTANCE || metadata('instance/id', env)
  ])
  return { name: 'app_engine', service, version, project, zone: lastPart(zone), instance }
}

async function onGke (env: NodeJS.ProcessEnv, patience: number): Promise<Gke | undefined> {
  const cluster = await metadata('instance/attributes/cluster-name', env, patience)
  if (cluster === undefined) return undefined
  const [project, location, namespace] = await Promise.all([
    projectOf(env), metadata('instance/attributes/cluster-location', env), env.POD_NAMESPACE || readNamespace()
  ])
  return { name: 'gke', cluster, project, location, namespace, pod: podOf(env) }
}

async function projectOf (env: NodeJS.ProcessEnv): Promise<string | undefined> {
  return env.GOOGLE_CLOUD_PROJECT || metadata('project/project-id', env)
}

/** Regions and zones come as 'projects/NUMBER/regions/REGION'. */
function lastPart (path: string | undefined): string | undefined {
  return path?.split('/').at(-1)
}

/** Without a variable from the downward API the host's name, which is the pod's unless the pod names another. */
function podOf ({ POD_NAME, HOSTNAME }: NodeJS.ProcessEnv): string | undefined {
  return POD_NAME || HOSTNAME || undefined
}

/** Name of the Deployment or StatefulSet that this pod is of. */
export function workloadName (env: NodeJS.ProcessEnv): string | undefined {
  return workloadOf(podOf(env))
}

/** 'chat' of 'chat-7d9f8b6c5d-x2x7z', of 'chat-0', and of 'chat-x2x7z'. */
export function workloadOf (pod: string | undefined): string | undefined {
  const suffix = POD_SUFFIXES.find(pattern => pod !== undefined && pattern.test(pod))
  return suffix === undefined ? pod : pod?.replace(suffix, '')
}

async function readNamespace (): Promise<string | undefined> {
  const namespace = await readFile(NAMESPACE_FILE, 'utf8').catch(() => '') // a pod need not mount it
  return namespace.trim() || undefined
}
