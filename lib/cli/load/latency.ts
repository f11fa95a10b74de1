import { createHistogram } from 'node:perf_hooks'
import type { RecordableHistogram } from 'node:perf_hooks'

/** In milliseconds; undefined where nothing was measured. */
export interface Percentiles {
  readonly count: number
  readonly p50: number | undefined
  readonly p90: number | undefined
  readonly p99: number | undefined
  readonly max: number | undefined
}

const MICROSECONDS = 1_000
/** The longest that is told apart: an hour. */
const MAX = 3_600_000 * MICROSECONDS

/** Times in bounded memory, to three digits. */
export class Latency {
  readonly #histogram: RecordableHistogram = createHistogram({ lowest: 1, highest: MAX, figures: 3 })

  record (ms: number): void {
    this.#histogram.record(Math.min(MAX, Math.max(1, Math.round(ms * MICROSECONDS))))
  }

  reset (): void {
    this.#histogram.reset()
  }

  percentile (percent: number): number | undefined {
    return this.#histogram.count === 0 ? undefined : Math.min(this.#histogram.percentile(percent), this.#histogram.max) / MICROSECONDS
  }

  get percentiles (): Percentiles {
    const [p50, p90, p99, max] = [50, 90, 99, 100].map(percent => this.percentile(percent))
    return { count: this.#histogram.count, p50, p90, p99, max }
  }
}
