import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Availability } from '../lifecycle/availability.ts'
import type { Connections } from '../core/connections.ts'
import type { Observer } from '../observability/observer.ts'
import { refuseUpgrade } from './other-routes.ts'

/** HTTP statuses of a hook that asks who the prober is. Our handlers answer 200 or 503. */
const REFUSALS: ReadonlySet<number> = new Set([301, 302, 303, 307, 401, 403])

/** Probes of Cloud Run must not be rate-limited, and must not fill the log. Nobody upgrades them past all limits. */
function probe (observer: Observer) {
  const onSend = (request: FastifyRequest, reply: FastifyReply, _payload: unknown, done: () => void): void => {
    if (REFUSALS.has(reply.statusCode)) observer.probeRefused(request.routeOptions.url ?? request.url, reply.statusCode)
    done()
  }
  return { logLevel: 'silent', config: { rateLimit: false }, onRequest: refuseUpgrade, onSend } as const
}

/** Liveness: 200 as long as the process answers. Redis being down is no reason to restart it. */
export function addHealthRoute (app: FastifyInstance, path: string, instance: string, connections: Connections, observer: Observer): void {
  app.get(path, probe(observer), async () => ({ status: 'ok', connections: connections.size, instance }))
}

/** Readiness: 503 while new connections should go to other instances. Open connections stay. */
export function addReadyRoute (
  app: FastifyInstance, path: string, instanceId: string, availability: Availability, observer: Observer
): void {
  app.addHook('onReady', async () => availability.start())
  app.get(path, probe(observer), async (_request, reply) => {
    const { reasons, redis } = availability
    observer.probed(reasons, Date.now())
    const ready = reasons.length === 0
    reply.code(ready ? 200 : 503)
    return { status: ready ? 'ready' : 'unavailable', reasons, redis, instance: instanceId }
  })
}
