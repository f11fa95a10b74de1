import type { FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { Availability } from '../lifecycle/availability.ts'
import {
  CapacityError, DrainingError, InvalidArgumentError, InvalidDataError, MemoryError, OriginError, UnauthorizedError, UpgradeRequiredError
} from '../model/errors.ts'
import type { Rejection } from '../observability/metrics.ts'
import type { Observer } from '../observability/observer.ts'
import type { Identity } from '../options/options.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { encodePayload } from '../model/publication.ts'

/** Seconds after which a rejected client should try again: by then its load balancer has found another instance. */
const RETRY_AFTER = 1
/** Up to this many seconds more, at random, so that clients rejected together do not return together. */
const RETRY_JITTER = 4

export interface HttpError extends Error {
  code?: string
  statusCode?: number
}

/** Value of a Retry-After header. */
export function retryAfter (): string {
  return String(RETRY_AFTER + Math.floor(Math.random() * (RETRY_JITTER + 1)))
}

/** Decides who may open a connection. Its hooks run ahead of the upgrade; each lets the request pass or answers it. */
export class Admission {
  readonly #options: ResolvedOptions
  readonly #availability: Availability
  readonly #observer: Observer
  readonly #identities = new WeakMap<FastifyRequest, Identity>()

  constructor (options: ResolvedOptions, availability: Availability, observer: Observer) {
    this.#options = options
    this.#availability = availability
    this.#observer = observer
  }

  /** Runs first, as it is cheap: checks that the request is an upgrade, its origin, and that there is room. */
  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (!request.ws) answer(reply.header('upgrade', 'websocket'), new UpgradeRequiredError('connect to it with a WebSocket client'))
    else if (!this.#originAllowed(request)) this.#reject(request, reply, 'origin', new OriginError(String(request.headers.origin)))
    else if (!this.#rejectWithoutRoom(request, reply)) done()
  }

  /**
   * Runs last: authenticates, then checks again that there is room. No promise may come between this check and the
   * connection, hence `done`: otherwise all upgrades that wait together would find the same room.
   */
  readonly preHandler = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void => {
    const proceed = () => { if (!this.#rejectWithoutRoom(request, reply)) done() }
    const { authenticate } = this.#options
    if (authenticate === undefined) return proceed()
    this.#authenticate(authenticate, request, reply).then(accepted => { if (accepted) proceed() }, done)
  }

  /** What `authenticate` has returned; undefined without it. */
  identity (request: FastifyRequest): Identity | undefined {
    return this.#identities.get(request)
  }

  /** Reports an upgrade after `app.close()`, which never reaches Fastify's router. Returns the error to send. */
  rejectAfterClose (request: IncomingMessage, path: string): HttpError {
    const error = new DrainingError()
    this.#observer.rejectedAfterClose(request, path, error.message)
    return error
  }

  async #authenticate (
    authenticate: NonNullable<ResolvedOptions['authenticate']>, request: FastifyRequest, reply: FastifyReply
  ): Promise<boolean> {
    try {
      this.#identities.set(request, checkIdentity(await authenticate(request)))
      return true
    } catch (error) {
      this.#reject(request, reply, 'auth', unauthorized(error), error)
      return false
    }
  }

  #rejectWithoutRoom (request: FastifyRequest, reply: FastifyReply): boolean {
    const { refusal } = this.#availability
    if (refusal === undefined) return false
    reply.header('retry-after', retryAfter())
    if (refusal === 'draining') this.#reject(request, reply, 'draining', new DrainingError())
    else this.#reject(request, reply, 'capacity', refusal === 'full' ? new CapacityError(this.#options.maxConnections) : new MemoryError())
    return true
  }

  /** `cause` is logged. The client sees `error` only. */
  #reject (request: FastifyRequest, reply: FastifyReply, type: Rejection, error: HttpError, cause: unknown = error): void {
    const reason = cause instanceof Error ? cause.message : String(cause)
    this.#observer.rejected(request, type, reason, error.statusCode ?? 500)
    answer(reply, error)
  }

  /** Browsers always send an Origin. A client that sends none is no browser, and could send any. */
  #originAllowed (request: FastifyRequest): boolean {
    const { origin } = request.headers
    const { allowedOrigins } = this.#options
    if (origin === undefined || allowedOrigins === '*') return true
    if (allowedOrigins === 'same-host') return sameHost(origin, request.host)
    return allowedOrigins.some(allowed => typeof allowed === 'string' ? allowed === origin.toLowerCase() : origin.search(allowed) !== -1)
  }
}

/** Sends the error instead of throwing it: Fastify logs every thrown 5xx as an error, and a full instance is none. */
function answer (reply: FastifyReply, error: HttpError): void {
  const statusCode = error.statusCode ?? 500
  reply.code(statusCode).send({ statusCode, code: error.code, error: STATUS_CODES[statusCode], message: error.message })
}

function sameHost (origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false
  const { protocol, host: originHost } = new URL(origin)
  const own = `${protocol}//${host}`
  return originHost !== '' && URL.canParse(own) && new URL(own).host === originHost
}

/**
 * An error with a status code keeps its message. Any other error may contain what a client must not see. So may our
 * errors about the value that `authenticate` has returned.
 */
function unauthorized (error: unknown): HttpError {
  const { statusCode, message } = (error ?? {}) as HttpError
  const hidden = statusCode === undefined || error instanceof InvalidArgumentError || error instanceof InvalidDataError
  if (hidden) return new UnauthorizedError('the credentials were not accepted')
  return Object.assign(new UnauthorizedError(message), { statusCode })
}

/** @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_DATA */
function checkIdentity (identity: Identity): Identity {
  const invalid = (what: string, value: unknown, allowed: string) => new InvalidArgumentError(what, String(value), allowed)
  const allowed = '{ user, info?, channels?, expiresAt?, meta? }'
  if (typeof identity !== 'object' || identity === null) throw invalid('result of authenticate', identity, allowed)
  const { user, info, channels, expiresAt } = identity
  if (user !== undefined && !(typeof user === 'string' && user.isWellFormed())) {
    throw invalid('user from authenticate', user, 'a string of well-formed Unicode')
  }
  if (expiresAt !== undefined && !Number.isFinite(expiresAt)) {
    throw invalid('expiresAt from authenticate', expiresAt, 'a Unix time in seconds')
  }
  if (channels !== undefined && !isListOfStrings(channels)) throw invalid('channels from authenticate', channels, 'a list of strings')
  if (info !== undefined) encodePayload(info) // throws where JSON cannot carry it into presence lists
  return identity
}

function isListOfStrings (value: unknown): boolean {
  return Array.isArray(value) && value.every(one => typeof one === 'string')
}
