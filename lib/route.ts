import rateLimit from '@fastify/rate-limit'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { retryAfter } from './admission.ts'
import type { Admission, HttpError } from './admission.ts'
import { RateLimitError } from './errors.ts'
import type { Instance } from './instance.ts'
import type { ResolvedLimit, ResolvedOptions } from './options.ts'
import type { Protocol } from './protocol.ts'
import { clientAddress } from './rate-limit-store.ts'
import type { RateLimitStore } from './rate-limit-store.ts'

/** Brings what the routes stand on; what the host has registered already is used as it is. */
export async function addFoundation (app: FastifyInstance, options: ResolvedOptions, store: RateLimitStore | undefined): Promise<void> {
  if (!app.hasDecorator('websocketServer')) {
    // Its own preClose would wait 30 s for one silent peer, and its error handler would log as an error what a client does wrong.
    await app.register(websocket, { options: { maxPayload: options.maxPayload }, preClose: done => done(), errorHandler: () => {} })
  }
  if (options.rateLimit.connections !== false && !app.hasDecorator('rateLimit')) {
    await app.register(rateLimit, store === undefined ? { global: false } : { global: false, store })
  }
}

/** A WebSocket route, through the host's router: its hooks, prefix and encapsulation hold. */
export function addWebSocketRoute (app: FastifyInstance, path: string, wire: Protocol, instance: Instance, admission: Admission): void {
  const { connections } = instance.options.rateLimit
  app.route({
    method: 'GET',
    url: path,
    config: connections === false ? {} : { rateLimit: connectionLimit(connections, admission) },
    onRequest: admission.onRequest,
    preHandler: admission.preHandler,
    handler: () => {}, // never reached: `onRequest` has answered what is no upgrade
    wsHandler: (socket, request) => {
      // The host's own @fastify/websocket would close it at app.close() without a code; that is the drain's work.
      app.websocketServer.clients.delete(socket)
      instance.accept(socket, wire, admission.identity(request), request)
    }
  })
}

function connectionLimit ({ max, timeWindow }: ResolvedLimit, admission: Admission) {
  return {
    max,
    timeWindow,
    keyGenerator: clientAddress,
    skipOnError: true, // without Redis nobody is counted; readiness keeps new connections away meanwhile
    onExceeded: admission.rateLimited,
    errorResponseBuilder: (_request: unknown, { max, after }: { max: number, after: string }) => new RateLimitError(max, after)
  }
}

/** From `app.close()` on Fastify answers everything with 503, but does not say when to come again. */
export function refuseUpgrades (app: FastifyInstance, paths: string[], admission: Admission): void {
  const others = app.server.listeners('upgrade')
  app.server.removeAllListeners('upgrade')
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const [path = ''] = request.url?.split('?', 1) ?? []
    if (paths.includes(path)) return refuse(socket, admission.closing(request))
    for (const other of others) other.call(app.server, request, socket, head)
  })
}

function refuse (socket: Duplex, { statusCode, code, message }: HttpError): void {
  const body = JSON.stringify({ statusCode, code, error: 'Service Unavailable', message })
  socket.on('error', () => socket.destroy()) // it is gone: nobody waits for the answer
  socket.end(`HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: ${retryAfter()}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
}
