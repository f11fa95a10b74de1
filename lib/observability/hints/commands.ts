import type { PlatformKind } from '../../google/platform.ts'

/**
 * The command, or the line of code, that corrects each misconfiguration; SERVICE stands for the service's name. A
 * test compares this list with the reference's.
 */
export const hintCommands = {
  open_path: 'app.register(cloudRunWebSocket, { path: false })',
  no_redis: 'gcloud run services update SERVICE --update-env-vars=REDIS_URL=redis://HOST:6379',
  iam_without_tls: 'REDIS_CA_FILE=/secrets/redis-ca/ca.pem',
  concurrency: 'gcloud run services update SERVICE --concurrency=1000',
  request_timeout: 'gcloud run services update SERVICE --timeout=3600',
  cpu_throttling: 'gcloud run services update SERVICE --no-cpu-throttling',
  dead_connections: 'gcloud run services update SERVICE --no-cpu-throttling --cpu=2',
  not_ready_redis: 'gcloud run services update SERVICE --network=NETWORK --subnet=SUBNET --vpc-egress=private-ranges-only',
  not_ready_memory: 'gcloud run services update SERVICE --memory=1Gi',
  not_ready_full: 'gcloud run services update SERVICE --max=100 --max-instances=100',
  trust_proxy: 'app.register(cloudRunWebSocket, { trustedProxies: 1 })',
  trusted_proxies: "app.register(cloudRunWebSocket, { trustedProxies: request => String(request.headers['x-real-ip']) })",
  websocket_bounds: 'app.register(websocket, { options: { maxPayload: 65_536, maxFragments: 64, maxBufferedChunks: 1_024 } })',
  websocket_version: 'npm update ws',
  websocket_compression: 'app.register(websocket, { options: { perMessageDeflate: { serverNoContextTakeover: true, clientNoContextTakeover: true } } })',
  no_history: "channels: { NAMESPACE: { history: { size: 100, ttl: '10m' } } }",
  no_presence: 'channels: { NAMESPACE: { presence: true } }',
  probe_refused: 'if (request.routeOptions.url === PATH) return'
} as const satisfies Record<string, string>

export type Hint = keyof typeof hintCommands

interface OffCloudRun {
  /** SERVICE stands for the workload's name. */
  readonly kubernetes: string
  /** A line of app.yaml, or of code. */
  readonly app_engine: string
  readonly elsewhere: string
}

/** Where another place needs another command. The other hints are of Cloud Run alone, or their line is the same. */
export const commandsOffCloudRun: { readonly [hint in Hint]?: OffCloudRun } = {
  request_timeout: {
    kubernetes: 'kubectl patch gcpbackendpolicy SERVICE --type=merge -p \'{"spec":{"default":{"timeoutSec":86400}}}\'',
    app_engine: "app.register(cloudRunWebSocket, { requestTimeout: '300s' })",
    elsewhere: "app.register(cloudRunWebSocket, { requestTimeout: '300s' })"
  },
  dead_connections: {
    kubernetes: 'kubectl set resources deployment/SERVICE --requests=cpu=2',
    app_engine: 'resources: { cpu: 2 }',
    elsewhere: "app.register(cloudRunWebSocket, { heartbeat: { timeout: '20s' } })"
  },
  not_ready_redis: {
    kubernetes: 'kubectl describe networkpolicy',
    app_engine: 'network: { name: NETWORK, subnetwork_name: SUBNET }',
    elsewhere: 'redis-cli -u REDIS_URL ping'
  },
  not_ready_memory: {
    kubernetes: 'kubectl set resources deployment/SERVICE --requests=memory=2Gi --limits=memory=2Gi',
    app_engine: 'resources: { memory_gb: 2 }',
    elsewhere: 'app.register(cloudRunWebSocket, { memoryLimit: 2_147_483_648 })'
  },
  not_ready_full: {
    kubernetes: 'kubectl patch hpa SERVICE --type=merge -p \'{"spec":{"maxReplicas":100}}\'',
    app_engine: 'automatic_scaling: { max_num_instances: 100 }',
    elsewhere: 'app.register(cloudRunWebSocket, { maxConnections: 1900 })'
  }
}

/** `kind`: undefined elsewhere. */
export function commandFor (hint: Hint, kind: PlatformKind | undefined): string {
  if (kind === 'cloud_run') return hintCommands[hint]
  return commandsOffCloudRun[hint]?.[kind ?? 'elsewhere'] ?? hintCommands[hint]
}
