import type { BatchObservableResult, MeterProvider } from '@opentelemetry/api'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { SCOPE } from '../instruments.ts'

/** Shown only by an SDK of ours: your app's own has its instrumentation for these. */
export const processMetricNames = {
  eventLoopDelay: 'nodejs.eventloop.delay.p99',
  memory: 'process.memory.usage'
} as const

/** ms between two looks at the clock. */
const RESOLUTION = 20
const NANOSECONDS = 1e9

/** Returns the function that ends it. */
export function observeProcess (provider: MeterProvider): () => void {
  const meter = provider.getMeter(SCOPE)
  const eventLoopDelay = meter.createObservableGauge(processMetricNames.eventLoopDelay, { unit: 's', description: 'Event loop delay since the last export, 99th percentile' })
  const memory = meter.createObservableUpDownCounter(processMetricNames.memory, { unit: 'By', description: 'Resident memory of the process' })
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION })
  delays.enable()
  const observe = (result: BatchObservableResult) => {
    // Node measures from one look to the next, the time between them included.
    if (delays.count > 0) result.observe(eventLoopDelay, Math.max(0, delays.percentile(99) / NANOSECONDS - RESOLUTION / 1_000))
    delays.reset()
    result.observe(memory, process.memoryUsage.rss())
  }
  meter.addBatchObservableCallback(observe, [eventLoopDelay, memory])
  return () => { delays.disable() }
}
