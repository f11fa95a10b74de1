import type { FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { Drain } from '../lifecycle/drain.ts'
import { CapacityError, DrainingError, InvalidArgumentError, InvalidDataError, MemoryError, OriginError, UnauthorizedError, UpgradeRequiredError } from '../model/errors.ts'
import type { Instance } from '../core/connections.ts'
import type { Memory } from '../lifecycle/memory-guard.ts'
import type { Rejection } from '../observability/metrics.ts'
import type { Observer } from '../observability/observer.ts'
import type { Identity, ResolvedOptions } from '../options/options.ts'
import { encodePayload } from '../model/publication.ts'

/** Seconds after which a refused client should try again; its load balancer will have found another instance by then. */
const RETRY_AFTER = 1
/** And up to so many more by chance, so that those refused together do not come back together. */
const RETRY_JITTER = 4

export interface HttpError extends Error {
  code?: string
  statusCode?: number
}

export function retryAfter (): string {
  return String(RETRY_AFTER + Math.floor(Math.random() * (RETRY_JITTER + 1)))
}

/** Who may open a connection here: hooks ahead of the upgrade, each of which lets a request through or answers it. */
export class Admission {
  readonly #options: ResolvedOptions
  readonly #instance: Instance
  readonly #drain: Drain
  readonly #memory: Memory
  readonly #observer: Observer
  readonly #identities = new WeakMap<FastifyRequest, Identity>()

  constructor (options: ResolvedOptions, instance: Instance, drain: Drain, memory: Memory, observer: Observer) {
    this.#options = options
    this.#instance = instance
    this.#drain = drain
    this.#memory = memory
    this.#observer = observer
  }

  /** First of all, as it costs the least: is there room, is it a WebSocket, is it from here? */
  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (!request.ws) answer(reply.header('upgrade', 'websocket'), new UpgradeRequiredError('connect to it with a WebSocket client'))
    else if (!this.#originAllowed(request)) this.#refuse(request, reply, 'origin', new OriginError(String(request.headers.origin)))
    else if (this.#refuseWithoutRoom(request, reply) === undefined) done()
  }

  /**
   * Last of all: who is it? And is there still room, after all that was awaited? From there on everything is synchronous, hence
   * `done` and no promise: else all that were waiting together would find the same room.
   */
  readonly preHandler = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void => {
    const goOn = () => { if (this.#refuseWithoutRoom(request, reply) === undefined) done() }
    const { authenticate } = this.#options
    if (authenticate === undefined) return goOn()
    this.#identify(authenticate, request, reply).then(known => { if (known) goOn() }, done)
  }

  /** What `authenticate` said; undefined without it. */
  identity (request: FastifyRequest): Identity | undefined {
    return this.#identities.get(request)
  }

  readonly rateLimited = (request: FastifyRequest, address: string): void => {
    this.#observer.rejected(request, 'rate_limit', `too many connections from ${address}`, 429)
  }

  /** For an upgrade that comes after `app.close()` and never becomes a request of Fastify's. */
  closing (request: IncomingMessage, path: string): HttpError {
    const error = new DrainingError()
    this.#observer.rejectedAfterClose(request, path, error.message)
    return error
  }

  async #identify (authenticate: NonNullable<ResolvedOptions['authenticate']>, request: FastifyRequest, reply: FastifyReply): Promise<boolean> {
    try {
      this.#identities.set(request, checkIdentity(await authenticate(request)))
      return true
    } catch (error) {
      this.#refuse(request, reply, 'auth', unauthorized(error), error)
      return false
    }
  }

  #refuseWithoutRoom (request: FastifyRequest, reply: FastifyReply): FastifyReply | undefined {
    if (this.#drain.started) return this.#refuse(request, reply.header('retry-after', retryAfter()), 'draining', new DrainingError())
    if (this.#instance.full) return this.#refuse(request, reply.header('retry-after', retryAfter()), 'capacity', new CapacityError(this.#options.maxConnections))
    if (this.#memory.short) return this.#refuse(request, reply.header('retry-after', retryAfter()), 'capacity', new MemoryError())
  }

  #refuse (request: FastifyRequest, reply: FastifyReply, type: Rejection, error: HttpError, cause: unknown = error): FastifyReply {
    this.#observer.rejected(request, type, cause instanceof Error ? cause.message : String(cause), error.statusCode ?? 500)
    return answer(reply, error)
  }

  /** Browsers always send an Origin; what sends none is no browser, and could send any. */
  #originAllowed (request: FastifyRequest): boolean {
    const { origin } = request.headers
    const { allowedOrigins } = this.#options
    if (origin === undefined || allowedOrigins === '*') return true
    if (allowedOrigins === 'same-host') return sameHost(origin, request.host)
    return allowedOrigins.some(allowed => typeof allowed === 'string' ? allowed === origin.toLowerCase() : origin.search(allowed) !== -1)
  }
}

/** Not by throwing: Fastify logs every thrown 5xx as an error, and a full instance is none. */
function answer (reply: FastifyReply, error: HttpError): FastifyReply {
  const statusCode = error.statusCode ?? 500
  return reply.code(statusCode).send({ statusCode, code: error.code, error: STATUS_CODES[statusCode], message: error.message })
}

function sameHost (origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false
  const { protocol, host: originHost } = new URL(origin)
  const own = `${protocol}//${host}`
  return originHost !== '' && URL.canParse(own) && new URL(own).host === originHost
}

/** An error made for HTTP says itself what to answer; any other may hold what a client must not see, and so may ours of what the host returned. */
function unauthorized (error: unknown): HttpError {
  const { statusCode, message } = (error ?? {}) as HttpError
  if (statusCode === undefined || error instanceof InvalidArgumentError || error instanceof InvalidDataError) return new UnauthorizedError('the credentials were not accepted')
  return Object.assign(new UnauthorizedError(message), { statusCode })
}

/** @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_DATA */
function checkIdentity (identity: Identity): Identity {
  const allowed = '{ user, info?, channels?, expiresAt?, meta? }'
  if (typeof identity !== 'object' || identity === null) throw new InvalidArgumentError('result of authenticate', String(identity), allowed)
  const { user, info, channels, expiresAt } = identity
  if (user !== undefined && typeof user !== 'string') throw new InvalidArgumentError('user from authenticate', String(user), 'a text')
  if (expiresAt !== undefined && !Number.isFinite(expiresAt)) throw new InvalidArgumentError('expiresAt from authenticate', String(expiresAt), 'a Unix time in seconds')
  if (channels !== undefined && !isListOfTexts(channels)) throw new InvalidArgumentError('channels from authenticate', String(channels), 'a list of texts')
  if (info !== undefined) encodePayload(info) // throws: it goes into presence lists
  return identity
}

function isListOfTexts (value: unknown): boolean {
  return Array.isArray(value) && value.every(one => typeof one === 'string')
}
