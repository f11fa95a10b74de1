import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { NoWebSocketRouteError } from '../model/errors.ts'
import { answer } from './answer.ts'

/** Marks WebSocket routes in their `config`. */
const webSocketRoute = Symbol('WebSocket route')

declare module 'fastify' {
  interface FastifyContextConfig {
    [webSocketRoute]?: true
  }
}

/**
 * Answers upgrades to the app's other routes. @fastify/websocket would open a WebSocket and close it, past all limits,
 * and then waits up to 30 s for the client's close frame.
 */
export function refuseOtherUpgrades (app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (route.websocket === true || route.wsHandler !== undefined) route.config = { ...route.config, [webSocketRoute]: true }
  })
  app.addHook('onRequest', (request, reply, done) => {
    // HEAD has the config of its GET route. It cannot be upgraded, and nobody would answer.
    const passes = !request.ws || request.is404 || (request.method === 'GET' && request.routeOptions.config[webSocketRoute])
    if (passes) done()
    else refuseUpgrade(request, reply, done)
  })
}

/** A hook for a route that takes no upgrades. */
export function refuseUpgrade (request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  if (request.ws) answer(reply.header('upgrade', 'HTTP/1.1'), new NoWebSocketRouteError())
  else done()
}
