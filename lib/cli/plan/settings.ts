import { ADDRESSES, CLOUD_RUN_TIMEOUT, HEADROOM } from './assumptions.ts'
import type { Input } from './input.ts'
import type { Instances } from './instances.ts'

export interface Settings {
  maxInstances: number
  /** The option of the plugin. */
  maxConnections: number
  /** Length of the subnet's prefix for Direct VPC, and the addresses that have to be in it. */
  subnet: { prefix: number, addresses: number }
  /** Options of `gcloud run deploy`. */
  flags: string[]
}

/** Google keeps the first two and the last two addresses of a subnet for itself. */
const RESERVED = 4
/** Cloud Run takes no smaller one. */
const LONGEST_PREFIX = 26
/** What is left of the concurrency for probes and pages. */
const FREE_SHARE = 0.95

export function makeSettings (input: Input, { peak }: Instances): Settings {
  const maxInstances = Math.max(2, Math.ceil(peak * HEADROOM))
  const addresses = maxInstances * ADDRESSES
  const env = [`CLOUD_RUN_TIMEOUT_SECONDS=${CLOUD_RUN_TIMEOUT}`, `CLOUD_RUN_CONCURRENCY=${input.concurrency}`, `CLOUD_RUN_MAX_INSTANCES=${maxInstances}`]
  return {
    maxInstances,
    maxConnections: Math.floor(input.concurrency * FREE_SHARE),
    subnet: { prefix: Math.min(LONGEST_PREFIX, 32 - Math.ceil(Math.log2(addresses + RESERVED))), addresses },
    flags: [
      `--region=${input.region}`,
      `--cpu=${input.vcpu}`,
      `--memory=${input.memory}Gi`,
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
