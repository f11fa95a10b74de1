import type { FastifyInstance } from 'fastify'
import type { Backend } from '../../backends/backend.ts'
import type { Core } from '../../core/core.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Observer } from '../../observability/observer.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'

/**
 * Adds the HTTP API of `apiPath`. Every instance answers its questions, also one that has no such API: it may be
 * another service with the same Redis. What that needs is imported when it is first needed.
 */
export async function addApi (
  app: FastifyInstance, options: ResolvedOptions, namespaces: ChannelNamespaces, { broker, presence }: Backend, core: Core,
  observer: Observer
): Promise<void> {
  const { survey, publisher, control } = core
  survey.answer({ name: 'api.info' }, async () => (await import('./nodes.ts')).nodeOf(core))
  survey.answer({ name: 'api.channels' }, async (pattern: string) => (await import('./nodes.ts')).channelsOf(core, pattern))
  if (options.apiPath === false) return
  const { addRoutes } = await import('./routes.ts')
  await addRoutes(app, options, { namespaces, publisher, broker, presence, control, survey }, observer)
}
