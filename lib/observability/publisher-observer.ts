import type { FastifyBaseLogger } from 'fastify'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { PublisherLogger } from '../options/publisher-options.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { Hints } from './hints/hints.ts'
import { Logs } from './logs.ts'
import { Metrics } from './metrics.ts'
import { Observer } from './observer.ts'
import { bindRegistered } from './otel/registered.ts'
import { Tracing } from './tracing.ts'

/**
 * The observer of a process that only publishes. It has a span and a duration for each publication if an OpenTelemetry
 * SDK is registered by now; it starts none.
 */
export async function publisherObserver (
  instance: string, options: ResolvedOptions, namespaces: ChannelNamespaces, kind: 'redis' | 'memory', logger: PublisherLogger | undefined
): Promise<Observer> {
  // Only these three methods of a logger are called for what a publisher does.
  const logs = new Logs({ log: logger as FastifyBaseLogger | undefined, cloud: false, close: async () => {} }, false)
  const observer = new Observer(instance, logs, new Metrics(), new Tracing(namespaces, kind), new Hints(options, logs))
  await bindRegistered(observer, logs)
  return observer
}
