import { ADDRESSES, CLOUD_RUN_TIMEOUT, FLEETS, MOST_INSTANCES } from './assumptions.ts'
import type { Input } from './input.ts'
import type { Platform } from './platforms.ts'
import type { Redis } from './redis.ts'

export interface Settings {
  maxInstances: number
  /** The option of the plugin. */
  maxConnections: number
  /** Length of the subnet's prefix for Direct VPC, and the addresses that have to be in it. */
  subnet: { prefix: number, addresses: number }
  /** Options of example/cloud-run/deploy.sh. */
  deploy: string[]
  /** Options of `gcloud run deploy`: those that depend on the numbers. */
  flags: string[]
}

/** Google keeps the first two and the last two addresses of a subnet for itself. */
const RESERVED = 4
/** Cloud Run takes no smaller one. */
const LONGEST_PREFIX = 26
/** What is left of the concurrency for probes and pages. */
const FREE_SHARE = 0.95

export function makeSettings (input: Input, { instances, redis }: Platform): Settings {
  const maxInstances = Math.min(MOST_INSTANCES, FLEETS * instances.peak)
  const memory = Number.isInteger(input.memory) ? `${input.memory}Gi` : `${Math.round(input.memory * 1_024)}Mi`
  const addresses = maxInstances * ADDRESSES
  const env = [`CLOUD_RUN_TIMEOUT_SECONDS=${CLOUD_RUN_TIMEOUT}`, `CLOUD_RUN_CONCURRENCY=${input.concurrency}`, `CLOUD_RUN_MAX_INSTANCES=${maxInstances}`]
  return {
    maxInstances,
    maxConnections: Math.floor(input.concurrency * FREE_SHARE),
    subnet: { prefix: Math.min(LONGEST_PREFIX, 32 - Math.ceil(Math.log2(addresses + RESERVED))), addresses },
    deploy: [
      `--region=${input.region}`,
      `--min-instances=${input.minInstances}`,
      `--max-instances=${maxInstances}`,
      `--cpu=${input.vcpu}`,
      `--memory=${memory}`,
      `--concurrency=${input.concurrency}`,
      ...ofRedis(input, redis)
    ],
    flags: [
      `--region=${input.region}`,
      `--cpu=${input.vcpu}`,
      `--memory=${memory}`,
      `--min=${input.minInstances}`,
      `--max=${maxInstances}`,
      `--concurrency=${input.concurrency}`,
      `--scaling-concurrency-target=${input.target}`,
      `--timeout=${CLOUD_RUN_TIMEOUT}`,
      '--no-cpu-throttling',
      '--no-session-affinity',
      '--no-use-http2',
      `--update-env-vars=${env.join(',')}`
    ]
  }
}

/** None where no Redis carries the load: a warning says so. */
function ofRedis ({ replicas }: Input, { nodeType, gib, shards }: Redis): string[] {
  if (shards === undefined) return []
  if (gib !== undefined) return ['--redis=redis', `--redis-tier=${replicas === 0 ? 'basic' : 'standard'}`, `--redis-size=${gib}`]
  return [`--redis-node=${nodeType}`, `--redis-replicas=${replicas}`, ...shards > 1 ? ['--cluster-mode', `--redis-shards=${shards}`] : []]
}
