import type { FastifyReply } from 'fastify'
import { STATUS_CODES } from 'node:http'

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

/** Sends the error instead of throwing it: Fastify logs every thrown 5xx as an error, and a full instance is none. */
export function answer (reply: FastifyReply, error: HttpError): void {
  const statusCode = error.statusCode ?? 500
  if (statusCode === 503) reply.header('retry-after', retryAfter())
  reply.code(statusCode).send({ statusCode, code: error.code, error: STATUS_CODES[statusCode], message: error.message })
}
