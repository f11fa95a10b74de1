import type { FastifyInstance } from 'fastify'
import { RouteTakenError } from '../model/errors.ts'
import { invalid } from '../options/checks.ts'
import type { ResolvedOptions } from '../options/resolve.ts'

/**
 * Fastify's own error for a route that is there twice does not say which option names ours.
 * @throws FST_CRWS_ROUTE_TAKEN; FST_CRWS_INVALID_OPTION for two options with one path
 */
export function refuseTakenRoutes (app: FastifyInstance, options: ResolvedOptions): void {
  const { path, sdkPath, healthPath, readyPath, apiPath, inspectPath } = options
  const ours = new Map<string, string>()
  const routes = Object.entries({ path, sdkPath, healthPath, readyPath, inspectPath })
  if (inspectPath !== false) routes.push(['inspectPath', inspectPath.endsWith('/') ? inspectPath.slice(0, -1) : `${inspectPath}/`])
  for (const [option, route] of routes) {
    if (route === false) continue
    const url = app.prefix + route
    const other = ours.get(url)
    if (other !== undefined) throw invalid(option, route, `a path other than that of ${other}`)
    if (app.hasRoute({ method: 'GET', url })) throw new RouteTakenError(`GET ${url}`, option, option)
    ours.set(url, option)
  }
  for (const url of apiPath === false ? [] : [apiPath, `${apiPath}/*`].map(route => app.prefix + route)) {
    if (app.hasRoute({ method: 'POST', url })) throw new RouteTakenError(`POST ${url}`, 'apiPath', 'apiPath')
  }
}
