import type { TraceContext } from '../google/trace-context.ts'
import type { TokenBucket } from '../util/token-bucket.ts'

/** What is decided at the upgrade. */
export interface Upgrade {
  readonly deadline: number
  readonly pingAt: number
  readonly trace: TraceContext | undefined
  readonly rate: TokenBucket | undefined
}
