import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { WebSocket } from 'ws'
import type { Connection } from '../core/connection.ts'
import type { Protocol } from '../core/protocol.ts'
import type { Availability } from '../lifecycle/availability.ts'
import { ClientError } from '../model/client-error.ts'
import { CapacityError, DrainingError, MemoryError, OriginError, UpgradeRequiredError } from '../model/errors.ts'
import type { Rejection } from '../observability/metrics.ts'
import type { Observer } from '../observability/observer.ts'
import type { Identity } from '../options/identity.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { describe, readable } from '../util/thrown.ts'
import { answer } from './answer.ts'
import type { HttpError } from './answer.ts'
import { authenticated, hasFailed, isDeliberate, refusalOf } from './authentication.ts'
import { closeRefused } from './refused-socket.ts'

/** The version of the WebSocket protocol (RFC 6455). `ws` would take drafts of it too. */
const WEBSOCKET_VERSION = '13'
/** HTTP status of an upgrade that was accepted. */
const SWITCHING_PROTOCOLS = 101
/** HTTP status of a stream that was accepted. */
const OK = 200

/** `Sec-Fetch-Site` where the user has typed the address, or has followed a link in another program. */
export const USER = 'none'

/** Decides who may open a connection. Its hooks run ahead of the upgrade; each lets the request pass or answers it. */
export class Admission {
  readonly #options: ResolvedOptions
  readonly #availability: Availability
  readonly #observer: Observer
  readonly #identities = new WeakMap<FastifyRequest, Identity>()
  readonly #refusals = new WeakMap<FastifyRequest, ClientError>()

  constructor (options: ResolvedOptions, availability: Availability, observer: Observer) {
    this.#options = options
    this.#availability = availability
    this.#observer = observer
  }

  /** Runs first, as it is cheap: checks that the request is an upgrade, its origin, and that there is room. */
  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    const { headers } = request.raw
    if (!request.ws || request.method !== 'GET') return answerUpgradeRequired(reply)
    if (String(headers['sec-websocket-version']) !== WEBSOCKET_VERSION) {
      reply.header('sec-websocket-version', WEBSOCKET_VERSION)
      return answerUpgradeRequired(reply, `connect with version ${WEBSOCKET_VERSION} of the protocol`)
    }
    // Python's `websockets` sends it empty where its caller names no subprotocol; `ws` would answer 400.
    if (headers['sec-websocket-protocol'] === '') delete headers['sec-websocket-protocol']
    this.onStream(request, reply, done)
  }

  /** The same for a stream, which is no upgrade: checks its origin, and that there is room. */
  readonly onStream = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    this.onPost(request, reply, () => { if (!this.#rejectWithoutRoom(request, reply)) done() })
  }

  /** The same for what a client sends over a stream that it has: checks its origin. */
  readonly onPost = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (this.originAllowed(request)) done()
    else this.#reject(request, reply, 'origin', new OriginError(request.headers.origin ?? 'of another site'))
  }

  /**
   * Runs last: authenticates, then checks again that there is room. A request that waits for `authenticate` holds a
   * place. A client that has gone meanwhile needs no answer.
   */
  readonly preHandler = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void => {
    if (this.#rejectWithoutRoom(request, reply)) return
    const { authenticate } = this.#options
    if (authenticate === undefined) return done()
    const availability = this.#availability
    const free = () => { availability.authenticating-- }
    availability.authenticating++
    this.#authenticate(authenticate, request, reply).then(accepted => {
      free()
      // No promise may come between this check and the connection, hence `done`: otherwise all upgrades that wait
      // together would find the same room.
      if (accepted && !this.#rejectWithoutRoom(request, reply) && !this.#rejectByStatus(request, reply)) done()
    }, (error: Error) => { free(); done(error) })
  }

  /** The same for a route where the app's `authenticate` is not all that tells who a client is. */
  with (authenticate: ResolvedOptions['authenticate']): Admission {
    return new Admission({ ...this.#options, authenticate }, this.#availability, this.#observer)
  }

  /** What `authenticate` has returned; undefined without it. */
  identity (request: FastifyRequest): Identity | undefined {
    return this.#identities.get(request)
  }

  /** The close code with which `authenticate` has refused the client; undefined for any other. */
  refusal (request: FastifyRequest): ClientError | undefined {
    return this.#refusals.get(request)
  }

  /** Closes the socket of a client that `authenticate` has refused with a close code. Returns false for any other. */
  closeRefused (socket: WebSocket, request: FastifyRequest, { encoder }: Protocol<Connection>): boolean {
    const refusal = this.refusal(request)
    if (refusal !== undefined) closeRefused(socket, encoder.endOf(refusal.end), this.#availability)
    return refusal !== undefined
  }

  /** Reports an upgrade after `app.close()`, which never reaches Fastify's router. Returns the error to send. */
  rejectAfterClose (request: IncomingMessage, path: string): HttpError {
    const error = new DrainingError()
    this.#observer.rejectedAfterClose(request, path, error.message)
    return error
  }

  /** Resolves to true if the upgrade goes on. That of a client that is refused with a close code does. */
  async #authenticate (
    authenticate: NonNullable<ResolvedOptions['authenticate']>, request: FastifyRequest, reply: FastifyReply
  ): Promise<boolean> {
    try {
      const identity = await authenticated(authenticate, request, request.ws ? undefined : reply.raw)
      if (identity !== undefined) this.#identities.set(request, identity)
      return identity !== undefined
    } catch (error) {
      if (error instanceof ClientError && error.closes) {
        this.#refusals.set(request, error)
        return true
      }
      const failed = hasFailed(error)
      if (failed) this.#observer.authenticateFailed(request, error)
      const details = failed || isDeliberate(error) ? undefined : { err: readable(error) }
      const refusal = refusalOf(error)
      this.#reject(request, reply, refusal.statusCode! < 500 ? 'auth' : 'auth_failed', refusal, error, details)
      return false
    }
  }

  /**
   * Reports a client that is to be refused with a close code. It gets an HTTP status, and true is returned, while too
   * many others have not closed yet. It will come back, and is told then.
   */
  #rejectByStatus (request: FastifyRequest, reply: FastifyReply): boolean {
    const refusal = this.#refusals.get(request)
    if (refusal === undefined) return false
    const details = { code: refusal.code }
    const { mayClose } = this.#availability
    if (mayClose) this.#observer.rejected(request, 'auth', refusal.message, request.ws ? SWITCHING_PROTOCOLS : OK, details)
    else this.#reject(request, reply, 'auth', refusalOf(refusal), refusal, details)
    return !mayClose
  }

  #rejectWithoutRoom (request: FastifyRequest, reply: FastifyReply): boolean {
    const { refusal } = this.#availability
    if (refusal === undefined) return false
    if (refusal === 'draining') this.#reject(request, reply, 'draining', new DrainingError())
    else this.#reject(request, reply, 'capacity', refusal === 'full' ? new CapacityError(this.#options.maxConnections) : new MemoryError())
    return true
  }

  /** `cause` and `details` are logged. The client sees `error` only. */
  #reject (
    request: FastifyRequest, reply: FastifyReply, type: Rejection, error: HttpError, cause: unknown = error, details?: object
  ): void {
    this.#observer.rejected(request, type, describe(cause), error.statusCode ?? 500, details)
    answer(reply, error)
  }

  /**
   * Browsers send an Origin with every upgrade, every post, and whatever a page of another origin reads. An image of
   * such a page asks without one, to read nothing, also if the page is of the same site. A client that sends none
   * otherwise is no browser, and could send any.
   */
  originAllowed (request: FastifyRequest): boolean {
    const { origin, 'sec-fetch-site': site } = request.headers
    const { allowedOrigins } = this.#options
    if (allowedOrigins === '*') return true
    if (origin === undefined) return site === undefined || site === 'same-origin' || site === USER
    if (allowedOrigins === 'same-host') return sameHost(origin, request)
    return allowedOrigins.some(allowed => typeof allowed === 'string' ? allowed === origin.toLowerCase() : origin.search(allowed) !== -1)
  }
}

/** Answers a request to a WebSocket route that is no upgrade. */
export function answerUpgradeRequired (reply: FastifyReply, advice = 'connect to it with a WebSocket client'): void {
  answer(reply.header('upgrade', 'websocket'), new UpgradeRequiredError(advice))
}

/** Whether a request of a browser comes from a page of this very host. */
export function sameHost (origin: string, { host, headers }: FastifyRequest): boolean {
  if (!URL.canParse(origin)) return false
  const { protocol, host: originHost } = new URL(origin)
  const own = `${protocol}//${host}`
  if (originHost === '' || !URL.canParse(own) || new URL(own).host !== originHost) return false
  // Whoever can change a page on its way may have written one that came without TLS. (The other way round no browser
  // would connect, so there a proxy has the wrong protocol.)
  return protocol !== 'http:' || !/^(https|wss)\b/i.test(String(headers['x-forwarded-proto']))
}
