import { context, propagation, trace } from '@opentelemetry/api'
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import type { ReadableSpan, Sampler } from '@opentelemetry/sdk-trace-node'
import type { Test } from 'tap'
import { until } from './until.ts'

export interface Spans {
  /** All spans that have ended, in the order of their ends. */
  readonly ended: ReadableSpan[]
  /** Waits for `count` spans of this name. */
  named (name: string, count?: number): Promise<ReadableSpan[]>
}

/** Registers the SDK as an app does, with W3C propagation and the context manager. */
export function startTracer (t: Test, sampler?: Sampler): Spans {
  const exporter = new InMemorySpanExporter()
  const spanProcessors = [new SimpleSpanProcessor(exporter)]
  const provider = new NodeTracerProvider({ spanProcessors, ...(sampler !== undefined && { sampler }) })
  provider.register()
  t.teardown(async () => {
    trace.disable()
    context.disable()
    propagation.disable()
    await provider.shutdown()
  })
  return {
    get ended () { return exporter.getFinishedSpans() },
    async named (name, count = 1) {
      const found = () => exporter.getFinishedSpans().filter(span => span.name === name)
      await until(() => found().length >= count, `${count} spans named ${name}`)
      return found()
    }
  }
}
