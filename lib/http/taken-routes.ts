import type { FastifyInstance } from 'fastify'
import { RouteTakenError } from '../model/errors.ts'
import type { ResolvedOptions } from '../options/resolve.ts'

/**
 * Fastify's own error for a route that is there twice does not say which option names ours.
 * @throws FST_CRWS_ROUTE_TAKEN
 */
export function refuseTakenRoutes (app: FastifyInstance, { path, sdkPath, healthPath, readyPath }: ResolvedOptions): void {
  const ours = new Set<string>()
  for (const [option, route] of Object.entries({ path, sdkPath, healthPath, readyPath })) {
    if (route === false) continue
    const url = app.prefix + route
    if (ours.has(url) || app.hasRoute({ method: 'GET', url })) throw new RouteTakenError(url, option, option)
    ours.add(url)
  }
}
