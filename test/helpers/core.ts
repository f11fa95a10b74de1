import Fastify from 'fastify'
import type { Test } from 'tap'
import { createBackend } from '../../lib/backends/backend.ts'
import type { Backend } from '../../lib/backends/backend.ts'
import { BrokerEvents } from '../../lib/core/broker-events.ts'
import { createCore } from '../../lib/core/core.ts'
import type { Core } from '../../lib/core/core.ts'
import type { Broker } from '../../lib/model/broker.ts'
import { ChannelNamespaces } from '../../lib/model/channel-rules.ts'
import { Hints } from '../../lib/observability/hints/hints.ts'
import { Logs } from '../../lib/observability/logs.ts'
import { Metrics } from '../../lib/observability/metrics.ts'
import { Observer } from '../../lib/observability/observer.ts'
import { Tracing } from '../../lib/observability/tracing.ts'
import type { Options } from '../../lib/options/options.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { collectLog } from './log.ts'
import type { Entry } from './log.ts'

export interface CoreInstance {
  readonly id: string
  readonly core: Core
  readonly backend: Backend
  readonly entries: Entry[]
  /** Closes the links to Redis, as a crash does: the instance stays in the registry. */
  crash (): Promise<void>
}

let count = 0

/**
 * The parts of an instance without routes, which hears commands and is in the registry. It has no heartbeat.
 * @param wrap May stand between the parts and the broker.
 */
export async function startCore (t: Test, given: Options, wrap = (broker: Broker): Broker => broker): Promise<CoreInstance> {
  const id = `instance-${++count}`
  const options = resolveOptions(given, {})
  const { logger, entries } = collectLog()
  const logs = new Logs({ log: Fastify({ logger }).log, cloud: false, close: async () => {} }, options.logging)
  const namespaces = new ChannelNamespaces(options.channels)
  const backend = createBackend(options)
  const observer = new Observer(id, logs, new Metrics(), new Tracing(namespaces, backend.kind), new Hints(options, logs, {}))
  const core = createCore(id, { ...backend, broker: wrap(backend.broker) }, namespaces, options, observer)
  const crash = () => backend.broker.close()
  t.teardown(crash)
  await backend.broker.start(new BrokerEvents(core.connections, core.subscriptions, core.control, core.occupancies, observer))
  await Promise.all([core.control.listen(), core.registry.record()])
  return { id, core, backend, entries, crash }
}
