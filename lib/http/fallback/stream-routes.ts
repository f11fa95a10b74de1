import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods, RouteOptions } from 'fastify'
import type { ServerResponse } from 'node:http'
import type { Connection } from '../../core/connection.ts'
import type { Connections } from '../../core/connections.ts'
import type { Protocol } from '../../core/protocol.ts'
import { MethodError, StreamRequestError } from '../../model/errors.ts'
import type { Admission } from '../admission.ts'
import { answer } from '../answer.ts'
import { refuseUpgrade } from '../other-routes.ts'
import type { Limiter } from '../rate-limit.ts'
import { writableOf } from '../writable-of.ts'
import type { Cors } from './cors.ts'
import { HttpStream } from './http-stream.ts'
import { Pipelining } from './pipelining.ts'

/** Methods that a browser or a tool may try on a route that does not take them. */
const METHODS: readonly HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/** A stream that was opened, and its connection. */
export interface Opened {
  readonly stream: HttpStream
  readonly connection: Connection
}

/** Adds routes for clients whose network blocks WebSockets, in a scope of their own, and opens their streams. */
export class StreamRoutes {
  readonly #scope: FastifyInstance
  readonly #connections: Connections
  readonly #admission: Admission
  readonly #limiter: Limiter
  readonly #cors: Cors
  readonly #pipelining: Pipelining

  constructor (
    scope: FastifyInstance, connections: Connections, admission: Admission, limiter: Limiter, cors: Cors, pipelining = new Pipelining(scope)
  ) {
    this.#scope = scope
    this.#connections = connections
    this.#admission = admission
    this.#limiter = limiter
    this.#cors = cors
    this.#pipelining = pipelining
  }

  /** Routes beside these, in another scope, whose clients are admitted in another way. */
  with (scope: FastifyInstance, admission: Admission): StreamRoutes {
    return new StreamRoutes(scope, this.#connections, admission, this.#limiter, this.#cors, this.#pipelining)
  }

  /** A route whose response is a stream. `open` is called when the client is admitted, and calls `this.open`. */
  addStream (method: 'GET' | 'POST', url: string, open: (request: FastifyRequest, reply: FastifyReply) => void): void {
    const { onStream, preHandler } = this.#admission
    this.#add(method, url, {
      config: this.#limiter.config,
      onRequest: [refuseUpgrade, this.#cors.onRequest, onStream, ...this.#limiter.hook],
      preHandler,
      handler: (request, reply) => { if (hasOutput(reply) && this.#pipelining.begin(request, reply)) open(request, reply) }
    })
  }

  /** The route to which clients post what they send over their streams. */
  addPosts (url: string, handler: (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>): void {
    // Limits of the app for its own routes would stop a client that talks much.
    this.#add('POST', url, { config: { rateLimit: false }, onRequest: [refuseUpgrade, this.#cors.onRequest, this.#admission.onPost], handler })
  }

  /**
   * Opens the stream of a client that was admitted. undefined: `authenticate` has refused it with a close code, which
   * the client is told in the stream.
   */
  open (request: FastifyRequest, reply: FastifyReply, protocol: Protocol<Connection>, type: string): Opened | undefined {
    const { encoder } = protocol
    reply.hijack()
    request.body = undefined // the stream may last for an hour
    writeHead(reply, type)
    const stream = new HttpStream(reply.raw)
    const refusal = this.#admission.refusal(request)
    if (refusal === undefined) {
      return { stream, connection: this.#connections.accept(stream, protocol, this.#admission.identity(request), request) }
    }
    const message = encoder.closingMessage(encoder.endOf(refusal.end))
    if (message !== undefined) stream.send(message.payload)
    stream.close()
    return undefined
  }

  #add (method: 'GET' | 'POST', url: string, route: Omit<RouteOptions, 'method' | 'url'>): void {
    const { logLevel, logSerializers } = this.#connections.options
    const log = { ...(logLevel !== undefined && { logLevel }), logSerializers: { req: withoutQuery, ...logSerializers } }
    const cors = this.#cors
    this.#scope.route({ ...log, ...route, method, url, exposeHeadRoute: false })
    this.#scope.route({
      ...log,
      method: 'OPTIONS',
      url,
      config: { rateLimit: false },
      onRequest: [cors.onRequest, this.#admission.onPost],
      handler: (request, reply) => cors.preflight(request, reply, method)
    })
    this.#scope.route({
      ...log,
      method: METHODS.filter(other => other !== method),
      url,
      exposeHeadRoute: false,
      onRequest: [refuseUpgrade, cors.onRequest, (_request, reply) => answer(reply.header('allow', `${method}, OPTIONS`), new MethodError(method))],
      handler: async () => {} // `onRequest` has answered
    })
  }
}

/**
 * Whether a stream of this response would reach its client, and end with it: Node.js tells no end of a response that
 * has not begun. False: the client has gone, or was told that it asked behind another response in the same socket.
 */
function hasOutput (reply: FastifyReply): boolean {
  const raw: ServerResponse = reply.raw
  if (writableOf(raw).destroyed) reply.hijack()
  else if (raw.socket === null) answer(reply, new StreamRequestError('another response is still under way in its socket'))
  else return true
  return false
}

/** Fastify's entries of a request, but for its query: clients that can send no headers have their tokens there. */
function withoutQuery ({ method, url, host, ip, raw }: FastifyRequest): object {
  return { method, url: url.split('?', 1)[0], host, remoteAddress: ip, remotePort: raw.socket?.remotePort }
}

/** Writes the head at once, with what the app's hooks have set. The rest keeps proxies from holding the body back. */
export function writeHead (reply: FastifyReply, type: string): void {
  const raw: ServerResponse = reply.raw
  if (reply.request.raw.httpVersionMajor === 1) {
    const { socket } = reply.request.raw
    socket?.setNoDelay?.(true)
    socket?.setTimeout?.(0) // the app's `connectionTimeout` is for requests that end
  }
  raw.writeHead(200, {
    ...reply.getHeaders(),
    'content-type': type,
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no'
  } as Record<string, string>)
  raw.flushHeaders()
}
