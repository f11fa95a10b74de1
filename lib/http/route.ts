import rateLimit from '@fastify/rate-limit'
import type { RateLimitOptions } from '@fastify/rate-limit'
import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import { retryAfter } from './admission.ts'
import type { Admission, HttpError } from './admission.ts'
import { closeCodes } from '../model/close-codes.ts'
import { RateLimitError } from '../model/errors.ts'
import type { Instance } from '../core/connections.ts'
import type { ResolvedLimit, ResolvedOptions } from '../options/options.ts'
import type { Protocol } from '../core/protocol.ts'
import { clientAddress } from '../backends/redis/rate-limit-store.ts'
import type { RateLimitStore } from '../backends/redis/rate-limit-store.ts'
import type { Observer } from '../observability/observer.ts'
import type { Tracing } from '../observability/tracing.ts'

const JSON_SUBPROTOCOL = 'centrifuge-json'
const PROTOBUF_SUBPROTOCOL = 'centrifuge-protobuf'

/** A hook that refuses who comes too often, or what tells the host's @fastify/rate-limit to do so. */
type Limiter = { hook: onRequestAsyncHookHandler[], config: { rateLimit?: RateLimitOptions } }

/** Brings what the routes stand on; what the host has registered already is used as it is. */
export async function addFoundation (app: FastifyInstance, options: ResolvedOptions): Promise<void> {
  if (!app.hasDecorator('websocketServer')) {
    // Its own preClose would wait 30 s for one silent peer, and its error handler would log as an error what a client does wrong.
    await app.register(websocket, { options: { maxPayload: options.maxPayload, handleProtocols }, preClose: done => done(), errorHandler: handlerFailed })
  }
  app.server.on('upgrade', endAnswered)
}

/** What the handler of a WebSocket route has thrown. What a client did wrong comes here too: `ws` has begun to close then. */
function handlerFailed (error: Error, socket: WebSocket, request: FastifyRequest): void {
  if (socket.readyState !== socket.OPEN) return
  request.log.error(error)
  socket.close(closeCodes.internalError.code, closeCodes.internalError.reason)
}

/** One for all routes of ours, which count together; out of sight of the host's routes, which are not ours to count. */
export async function createLimiter (app: FastifyInstance, { rateLimit: { connections } }: ResolvedOptions, store: RateLimitStore | undefined, observer: Observer): Promise<Limiter> {
  if (connections === false) return { hook: [], config: {} }
  const limit = connectionLimit(connections, observer)
  if (app.hasDecorator('rateLimit')) return { hook: [], config: { rateLimit: limit } }
  const hook: onRequestAsyncHookHandler[] = []
  await app.register(async (scope) => {
    await scope.register(rateLimit, store === undefined ? { global: false } : { global: false, store })
    hook.push(scope.rateLimit(limit))
  })
  return { hook, config: {} }
}

/** Ours if it is offered, else the first, as `ws` does by itself: a client whose subprotocol is not echoed gives up. */
function handleProtocols (offered: Set<string>): string | false {
  return [PROTOBUF_SUBPROTOCOL, JSON_SUBPROTOCOL, ...offered].find(one => offered.has(one)) ?? false
}

/** Which encoding an SDK wants (centrifugal.dev/docs/transports/websocket). */
export function wantsProtobuf (socket: WebSocket, request: FastifyRequest): boolean {
  const { format, cf_protocol: protocol } = request.query as Record<string, unknown>
  return socket.protocol === PROTOBUF_SUBPROTOCOL || format === 'protobuf' || protocol === 'protobuf'
}

/**
 * @fastify/websocket ends the socket of an upgrade that was refused, but not where a hook ahead of its own has answered, or for
 * a path that can not be decoded. Nobody reads from such a socket, so nobody would ever see that the client has gone.
 */
function endAnswered (_request: IncomingMessage, socket: Duplex & { _httpMessage?: ServerResponse }): void {
  socket._httpMessage?.once('finish', () => socket.destroy())
}

/** A WebSocket route, through the host's router: its hooks, prefix and encapsulation hold. */
export function addWebSocketRoute (app: FastifyInstance, path: string, choose: (socket: WebSocket, request: FastifyRequest) => Protocol, instance: Instance, admission: Admission, limiter: Limiter, tracing: Tracing): void {
  app.route({
    method: 'GET',
    url: path,
    config: limiter.config,
    onRequest: [tracing.onRequest, admission.onRequest, ...limiter.hook],
    preHandler: admission.preHandler,
    onSend: tracing.onSend,
    handler: () => {}, // never reached: `onRequest` has answered what is no upgrade
    wsHandler: (socket, request) => {
      // The host's own @fastify/websocket would close it at app.close() without a code; that is the drain's work.
      app.websocketServer.clients?.delete(socket) // there are none where the host has turned its clientTracking off
      forgetUpgrade(socket)
      tracing.accepted(request, () => instance.accept(socket, choose(socket, request), admission.identity(request), request))
    }
  })
}

/** The socket would keep the response that @fastify/websocket made for the upgrade, and with it the request. */
function forgetUpgrade (socket: WebSocket): void {
  const { _socket: raw } = socket as unknown as { _socket: Socket & { _httpMessage?: ServerResponse } }
  raw._httpMessage?.detachSocket(raw)
}

function connectionLimit ({ max, timeWindow }: ResolvedLimit, observer: Observer) {
  return {
    max,
    timeWindow,
    keyGenerator: clientAddress,
    skipOnError: true, // without Redis nobody is counted; readiness keeps new connections away meanwhile
    onExceeded: (request: FastifyRequest, address: string) => observer.rejected(request, 'rate_limit', `too many connections from ${address}`, 429),
    errorResponseBuilder: (_request: unknown, { max, after }: { max: number, after: string }) => new RateLimitError(max, after)
  }
}

/** From `app.close()` on Fastify answers everything with 503, but does not say when to come again. */
export function refuseUpgrades (app: FastifyInstance, paths: string[], admission: Admission): void {
  const others = app.server.listeners('upgrade')
  app.server.removeAllListeners('upgrade')
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const [path = ''] = request.url?.split('?', 1) ?? []
    // Where the host's @fastify/websocket has taken its listener away, nobody else would ever answer.
    if (paths.includes(path) || others.every(other => other === endAnswered)) {
      return refuse(socket, admission.rejectAfterClose(request, path))
    }
    for (const other of others) other.call(app.server, request, socket, head)
  })
}

function refuse (socket: Duplex, { statusCode, code, message }: HttpError): void {
  const body = JSON.stringify({ statusCode, code, error: 'Service Unavailable', message })
  socket.on('error', () => socket.destroy()) // it is gone: nobody waits for the answer
  socket.end(`HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: ${retryAfter()}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, () => socket.destroy()) // a peer that does not close must not keep the server
}
