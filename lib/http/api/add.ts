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
  // Once: where a loader takes part, every import takes its time, and who asks waits for a second at most.
  let nodes: Promise<typeof import('./nodes.ts')> | undefined
  const imported = () => (nodes ??= import('./nodes.ts'))
  survey.answer({ name: 'api.info' }, async () => (await imported()).nodeOf(core))
  survey.answer({ name: 'api.channels' }, async (pattern: string) => (await imported()).channelsOf(core, pattern))
  if (options.apiPath === false) return
  const { addRoutes } = await import('./routes.ts')
  await addRoutes(app, options, { namespaces, publisher, broker, presence, control, survey }, observer)
}
