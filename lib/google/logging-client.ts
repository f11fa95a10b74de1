import { randomUUID } from 'node:crypto'
import { LABELS, OPERATION, SPAN_ID, TRACE, TRACE_SAMPLED } from './log-entry.ts'
import { detectPlatform } from './platform.ts'
import type { Platform } from './platform.ts'
import { withTimeout } from '../util/timeout.ts'

export interface LoggingClient {
  /**
   * Lines of JSON as Cloud Logging reads them from stdout, in one request. Rejects within a few seconds if they were
   * not taken.
   */
  write (lines: readonly string[]): Promise<void>
  close (): void
}

/** What of `v2.LoggingServiceV2Client` is used here. */
interface ApiClient {
  initialize (): Promise<unknown>
  getProjectId (): Promise<string>
  writeLogEntries (request: object, options: object): Promise<unknown>
  close (): Promise<void>
}

/** Code of the error when the package is not there. */
export const MISSING = 'ERR_MODULE_NOT_FOUND'

/** ms for one request, which is not repeated: by default the client would go on for ten minutes. */
const CALL_TIMEOUT = 5_000
/** ms for loading the client, which takes up to a second of CPU, and for its credentials. */
const OPEN_TIMEOUT = 10_000
const LOG_NAME = 'fastify-cloud-run-websocket'

/** Loads `@google-cloud/logging`, which is not done before there is something to write. */
export function openLoggingClient (): Promise<LoggingClient> {
  return withTimeout(open(), OPEN_TIMEOUT, 'The client of Cloud Logging was not ready')
}

async function open (): Promise<LoggingClient> {
  const platform = await detectPlatform()
  const { v2 } = await import('@google-cloud/logging')
  const client = new v2.LoggingServiceV2Client() as unknown as ApiClient
  await client.initialize() // else it is done by the first call, and fails with a rejection that nobody can handle
  const project = platform?.project ?? await client.getProjectId()
  const common = {
    logName: `projects/${project}/logs/${LOG_NAME}`,
    resource: resourceOf(platform, project),
    ...labelsOf(platform),
    partialSuccess: true
  }
  const process = randomUUID()
  let count = 0
  // Google sorts entries of the same time by this id.
  const insertId = () => `${process}-${String(++count).padStart(10, '0')}`
  return {
    async write (lines) {
      const entries = lines.map(line => toApiEntry(JSON.parse(line), insertId()))
      const written = client.writeLogEntries({ ...common, entries }, { timeout: CALL_TIMEOUT, retry: null })
      await withTimeout(written, CALL_TIMEOUT + 500, 'Cloud Logging did not answer')
    },
    close () {
      client.close().catch(() => {}) // nothing more is sent, and the process is about to end
    }
  }
}

/** What to do about it, by the gRPC code of the error (grpc.github.io/grpc/core/md_doc_statuscodes.html). */
export function adviceFor (code: unknown): string {
  if (code === MISSING) return 'Install the client: npm install @google-cloud/logging'
  if (code === 7) return 'Grant the role to the service account of the service: gcloud projects add-iam-policy-binding PROJECT --member=serviceAccount:ACCOUNT --role=roles/logging.logWriter'
  return 'It is retried automatically'
}

/** As each platform labels what it reads from stdout; elsewhere there is only the project to name. */
function resourceOf (platform: Platform | undefined, project: string): object {
  const [type, labels] = platform === undefined ? ['global', {}] : typed(platform)
  return { type, labels: { project_id: project, ...labels } }
}

/** docs.cloud.google.com/logging/docs/api/v2/resource-list */
function typed (platform: Platform): [type: string, labels: object] {
  switch (platform.name) {
    case 'cloud_run': {
      const { service, revision, region = '', configuration } = platform
      return ['cloud_run_revision', { service_name: service, revision_name: revision, location: region, configuration_name: configuration }]
    }
    case 'app_engine': {
      const { service, version, zone = '' } = platform
      return ['gae_app', { module_id: service, version_id: version, zone }]
    }
    case 'gke': {
      const { cluster, location = '', namespace = '', pod = '' } = platform
      return ['k8s_pod', { cluster_name: cluster, location, namespace_name: namespace, pod_name: pod }]
    }
  }
}

/** The resource of a pod has its name; those of the others are the same for all instances. */
function labelsOf (platform: Platform | undefined): object {
  const instance = platform === undefined || platform.name === 'gke' ? undefined : platform.instance
  return instance === undefined ? {} : { labels: { instanceId: instance } }
}

/** The fields that are taken out of a line on stdout are fields of their own here; the rest is the payload. */
export function toApiEntry (line: Record<string, unknown>, insertId: string): object {
  const {
    severity, time, httpRequest,
    [TRACE]: trace, [SPAN_ID]: spanId, [TRACE_SAMPLED]: traceSampled, [LABELS]: labels, [OPERATION]: operation,
    ...payload
  } = line
  return {
    severity,
    timestamp: timestamp(time as string),
    insertId,
    ...(trace !== undefined && { trace, spanId, traceSampled }),
    ...(labels !== undefined && { labels }),
    ...(operation !== undefined && { operation }),
    ...(httpRequest !== undefined && { httpRequest: withDuration(httpRequest as { latency?: string }) }),
    jsonPayload: struct(payload)
  }
}

function timestamp (time: string): object {
  const ms = Date.parse(time)
  return { seconds: Math.floor(ms / 1_000), nanos: ms % 1_000 * 1_000_000 }
}

function withDuration ({ latency, ...request }: { latency?: string }): object {
  if (latency === undefined) return request
  const [seconds, fraction = ''] = latency.slice(0, -1).split('.')
  return { ...request, latency: { seconds: Number(seconds), nanos: Number(fraction.padEnd(9, '0')) } }
}

/** google.protobuf.Struct, whose members say of which type they are. */
function struct (fields: object): object {
  return { fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [wellFormed(name), valueOf(value)])) }
}

function valueOf (value: unknown): object {
  if (typeof value === 'string') return { stringValue: wellFormed(value) }
  if (typeof value === 'number') return { numberValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (Array.isArray(value)) return { listValue: { values: value.map(valueOf) } }
  return value === null ? { nullValue: 0 } : { structValue: struct(value as object) }
}

/**
 * What a client sent may hold half a character; it would not be UTF-8, and Google would refuse the whole request.
 * TypeScript's library does not know the method yet.
 */
function wellFormed (text: string): string {
  return (text as string & { toWellFormed (): string }).toWellFormed()
}
