import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Admission } from '../admission.ts'

/** Seconds for which a browser may keep the answer to its question whether it may send a request. */
const MAX_AGE = 300

/** Lets pages of allowed origins read what these routes answer, errors too: a WebSocket needs no such headers. */
export class Cors {
  readonly #admission: Admission
  /** Whether every page may: then none sends cookies. */
  readonly #anyOrigin: boolean

  constructor (admission: Admission, anyOrigin: boolean) {
    this.#admission = admission
    this.#anyOrigin = anyOrigin
  }

  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    const { origin } = request.headers
    if (this.#anyOrigin) {
      reply.header('access-control-allow-origin', '*')
      return done()
    }
    const vary = reply.getHeader('vary')
    reply.header('vary', vary === undefined ? 'origin' : `${vary}, origin`)
    if (origin !== undefined && this.#admission.originAllowed(request)) {
      reply.header('access-control-allow-origin', origin).header('access-control-allow-credentials', 'true')
    }
    done()
  }

  /** Answers a browser that asks whether it may send a request. An origin that is not allowed has been refused. */
  preflight (request: FastifyRequest, reply: FastifyReply, methods: string): void {
    const asked = request.headers['access-control-request-headers']
    reply.code(204)
      .header('access-control-allow-methods', methods)
      .header('access-control-max-age', MAX_AGE)
      .header('access-control-allow-headers', asked ?? 'content-type')
      .send()
  }
}
