import { trace } from '@opentelemetry/api'
import t from 'tap'
import type { FastifyBaseLogger } from 'fastify'
import { Logs } from '../../lib/observability/logs.ts'
import { bindRegistered } from '../../lib/observability/otel/registered.ts'
import { startTracer } from '../helpers/tracer.ts'

t.test('an SDK is bound if one is registered, and what keeps it from being bound is logged', async (t) => {
  const entries: object[] = []
  const log = { warn: (fields: object) => { entries.push(fields) } } as unknown as FastifyBaseLogger
  const logs = new Logs({ log, cloud: false, close: async () => {} }, false)
  startTracer(t)
  t.ok(trace.getTracerProvider())
  let bound = 0
  await bindRegistered({ bind: async () => { bound++ } }, logs)
  t.equal(bound, 1)
  await bindRegistered({ bind: () => Promise.reject(new Error('it broke')) }, logs)
  t.match(entries, [{ event: 'telemetry.failed' }])
})
