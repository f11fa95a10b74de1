import type { FastifyReply, FastifyRequest } from 'fastify'
import { createHash, timingSafeEqual } from 'node:crypto'
import { ApiForbiddenError, ApiKeyError, AuthenticateTimeoutError } from '../../model/errors.ts'
import type { Observer } from '../../observability/observer.ts'
import type { Api } from '../../options/api-checks.ts'
import { settledWithin } from '../../util/timeout.ts'
import { describe } from '../../util/thrown.ts'
import { answer } from '../answer.ts'
import type { HttpError } from '../answer.ts'
import { hasFailed, refusalOf } from '../authentication.ts'

/** Milliseconds that `authorize` may take. */
const TIMEOUT = 10_000

/** Lets requests through that have the key, or that `authorize` allows. Nothing of a body is read before. */
export class ApiAccess {
  readonly #keys: readonly Buffer[]
  readonly #authorize: Api['authorize']
  readonly #observer: Observer

  constructor ({ key = [], authorize }: Api, observer: Observer) {
    this.#keys = key.map(digest)
    this.#authorize = authorize
    this.#observer = observer
  }

  readonly onRequest = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const refusal = await this.#refusal(request)
    if (refusal === undefined) return undefined
    const { statusCode = 500, code } = refusal
    this.#observer.entryOnce('api.refused', { status: statusCode, code }, `A request to the HTTP API was refused: ${refusal.message}`, request)
    answer(reply, refusal)
    return reply
  }

  async #refusal (request: FastifyRequest): Promise<HttpError | undefined> {
    if (this.#authorize === undefined) return this.#hasKey(request) ? undefined : new ApiKeyError()
    try {
      const decision = (async (authorize: NonNullable<Api['authorize']>) => authorize(request))(this.#authorize)
      if (!await settledWithin(decision, TIMEOUT)) return new AuthenticateTimeoutError(TIMEOUT / 1_000)
      return await decision === true ? undefined : new ApiForbiddenError()
    } catch (err) {
      if (hasFailed(err)) this.#observer.entryOnce('api.error', { err }, `api.authorize failed: ${describe(err)}`, request)
      return refusalOf(err)
    }
  }

  /** Compares digests, which have one length, with every key: the time tells nothing about any of them. */
  #hasKey ({ headers }: FastifyRequest): boolean {
    const [, fromAuthorization] = /^apikey +(.+)$/i.exec(headers.authorization ?? '') ?? []
    const given = digest(String(headers['x-api-key'] ?? fromAuthorization ?? ''))
    return this.#keys.map(key => timingSafeEqual(key, given)).includes(true)
  }
}

function digest (key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
