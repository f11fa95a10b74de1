import type { FastifyInstance } from 'fastify'
import type { Core } from '../../core/core.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Observer } from '../../observability/observer.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'

/**
 * Adds the page of `inspectPath`. Every instance answers its questions, also one that has no page: it may be another
 * service with the same Redis. What the page needs is imported when it is first needed.
 */
export async function addInspector (
  app: FastifyInstance, options: ResolvedOptions, namespaces: ChannelNamespaces, core: Core, observer: Observer
): Promise<void> {
  const { inspectPath, inspect, logLevel, logSerializers } = options
  core.survey.answer({ name: 'inspect' }, async asked => (await import('./report.ts')).report(core, asked))
  if (inspectPath === false || inspect === undefined) return
  const { inspectorRoutes } = await import('./routes.ts')
  const inherited = { ...(logLevel !== undefined && { logLevel }), ...(logSerializers !== undefined && { logSerializers }) }
  await app.register(inspectorRoutes(inspect, namespaces, core, observer), { ...inherited, prefix: inspectPath.replace(/\/$/, '') })
}
