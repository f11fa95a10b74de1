import type { FastifyInstance, HTTPMethods } from 'fastify'
import { RouteTakenError } from '../model/errors.ts'
import { invalid } from '../options/checks.ts'
import type { ResolvedOptions } from '../options/resolve.ts'

/** Methods at the paths of `fallback`: all that are answered there. */
const STREAM_METHODS: readonly HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

function methodsOf (option: string): readonly HTTPMethods[] {
  return option.startsWith('fallback.') ? STREAM_METHODS : ['GET']
}

/**
 * Fastify's own error for a route that is there twice does not say which option names ours.
 * @throws FST_CRWS_ROUTE_TAKEN; FST_CRWS_INVALID_OPTION for two options with one path
 */
export function refuseTakenRoutes (app: FastifyInstance, options: ResolvedOptions): void {
  const { path, sdkPath, fallback, healthPath, readyPath, apiPath, inspectPath } = options
  const ours = new Map<string, string>()
  const streams = Object.entries(fallback).map(([option, route]) => [`fallback.${option}`, route] as const)
  const routes: Array<readonly [string, string | false]> = Object.entries({ path, sdkPath, healthPath, readyPath, inspectPath })
  routes.push(...streams)
  if (inspectPath !== false) routes.push(['inspectPath', inspectPath.endsWith('/') ? inspectPath.slice(0, -1) : `${inspectPath}/`])
  for (const [option, route] of routes) {
    if (route === false) continue
    const url = app.prefix + route
    const other = ours.get(url)
    if (other !== undefined) throw invalid(option, route, `a path other than that of ${other}`)
    const taken = methodsOf(option).find(method => app.hasRoute({ method, url }))
    if (taken !== undefined) throw new RouteTakenError(`${taken} ${url}`, option, option)
    ours.set(url, option)
  }
  for (const url of apiPath === false ? [] : [apiPath, `${apiPath}/*`].map(route => app.prefix + route)) {
    if (app.hasRoute({ method: 'POST', url })) throw new RouteTakenError(`POST ${url}`, 'apiPath', 'apiPath')
  }
}
