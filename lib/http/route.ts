import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import type { Connections } from '../core/connections.ts'
import type { Connection } from '../core/connection.ts'
import type { Protocol } from '../core/protocol.ts'
import type { Tracing } from '../observability/tracing.ts'
import { answerUpgradeRequired } from './admission.ts'
import type { Admission } from './admission.ts'
import { retryAfter } from './answer.ts'
import type { HttpError } from './answer.ts'
import { completeInjectedStream } from './injected-stream.ts'
import type { Limiter } from './rate-limit.ts'
import { guardSocket } from './websocket-server.ts'

/** The socket under a WebSocket. */
type RawSocket = Socket & { _httpMessage?: ServerResponse }

/** The routes of WebSocket clients. They go through the app's router, so its hooks, prefix and encapsulation apply. */
export class WebSocketRoutes {
  readonly #app: FastifyInstance
  readonly #connections: Connections
  readonly #admission: Admission
  readonly #limiter: Limiter
  readonly #tracing: Tracing
  readonly #paths = new Set<string>()

  constructor (app: FastifyInstance, connections: Connections, admission: Admission, limiter: Limiter, tracing: Tracing) {
    this.#app = app
    this.#connections = connections
    this.#admission = admission
    this.#limiter = limiter
    this.#tracing = tracing
  }

  add (path: string, choose: (socket: WebSocket, request: FastifyRequest) => Protocol<Connection>): void {
    const admission = this.#admission
    const tracing = this.#tracing
    const { logLevel, logSerializers } = this.#connections.options
    this.#paths.add(this.#app.prefix + path)
    this.#app.route({
      // Fastify applies these to a plugin's routes, but not to those of a plugin that is not encapsulated, as ours.
      ...(logLevel !== undefined && { logLevel }),
      ...(logSerializers !== undefined && { logSerializers }),
      method: 'GET',
      exposeHeadRoute: false, // @fastify/websocket cannot upgrade it and would leave its socket open
      url: path,
      config: this.#limiter.config,
      onRequest: [tracing.onRequest, admission.onRequest, ...this.#limiter.hook],
      preHandler: admission.preHandler,
      onSend: tracing.onSend,
      handler: (_request, reply) => { answerUpgradeRequired(reply) }, // `onRequest` has done so already
      wsHandler: (socket, request) => {
        const { _socket: raw } = socket as unknown as { _socket: RawSocket }
        detachUpgradeResponse(raw)
        completeInjectedStream(raw)
        const protocol = choose(socket, request)
        tracing.accepted(request, () => {
          if (admission.closeRefused(socket, request, protocol)) return
          // The app's own @fastify/websocket would close it at app.close() without a code; that is the drain's task.
          this.#app.websocketServer.clients?.delete(socket) // undefined where the app has turned clientTracking off
          this.#connections.accept(socket, protocol, admission.identity(request), request)
        })
      }
    })
  }

  /** Answers upgrades with 503 from `app.close()` on. Fastify's own 503 does not tell the client when to come again. */
  refuseUpgrades (): void {
    const { server } = this.#app
    const others = server.listeners('upgrade')
    server.removeAllListeners('upgrade')
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      const [path = ''] = request.url?.split('?', 1) ?? []
      // Once the app's @fastify/websocket has removed its listener, nobody else would answer.
      if (this.#paths.has(path) || others.every(other => other === guardSocket)) {
        return refuse(socket, this.#admission.rejectAfterClose(request, path))
      }
      for (const other of others) other.call(server, request, socket, head)
    })
  }
}

/** Detaches the response that @fastify/websocket made for the upgrade: it would keep the request in memory. */
function detachUpgradeResponse (raw: RawSocket): void {
  raw._httpMessage?.detachSocket(raw)
}

function refuse (socket: Duplex, { statusCode, code, message }: HttpError): void {
  const body = JSON.stringify({ statusCode, code, error: 'Service Unavailable', message })
  const head = [
    'HTTP/1.1 503 Service Unavailable',
    'Connection: close',
    `Retry-After: ${retryAfter()}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`
  ]
  socket.on('error', () => socket.destroy()) // the client has gone
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy()) // a peer that does not close must not keep the server
}
