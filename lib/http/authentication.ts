import type { FastifyRequest } from 'fastify'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { ClientError } from '../model/client-error.ts'
import { AuthenticateFailedError, AuthenticateTimeoutError, UnauthorizedError } from '../model/errors.ts'
import { checkIdentity } from '../options/identity.ts'
import type { Identity } from '../options/identity.ts'
import type { Options } from '../options/options.ts'
import { isPromise } from '../util/task-queue.ts'
import type { HttpError } from './answer.ts'
import { writableOf } from './writable-of.ts'

/** Milliseconds that `authenticate` may take: an upgrade that waits for it holds a place. */
const TIMEOUT = 10_000
/** Causes of an error, and errors it collects, that are looked at. */
const MAX_CAUSES = 8

/** Names of errors of an `AbortSignal`, as of a `fetch` that took too long. */
const TIMEOUTS: ReadonlySet<string> = new Set(['AbortError', 'TimeoutError'])

/**
 * Asks `authenticate` who the client is. Resolves to undefined as soon as the client has gone: at a reset, and at its
 * end unless it has sent something before. What it sends is left for the WebSocket, so such an end is not seen, and the
 * upgrade holds its place until TIMEOUT. `response`: that of a request that is no upgrade.
 * @throws FST_CRWS_AUTHENTICATE_TIMEOUT, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_DATA, or what `authenticate`
 * throws
 */
export async function authenticated (
  authenticate: NonNullable<Options['authenticate']>, request: FastifyRequest, response?: ServerResponse
): Promise<Identity | undefined> {
  // Injected requests have no socket. That of HTTP/2 carries other requests, so there the response tells.
  const socket = response === undefined ? (request.raw as { socket?: Socket }).socket : undefined
  const peer = response ?? socket
  // It went during a hook of the app, and would not say so again.
  if ((response === undefined ? socket : writableOf(response))?.destroyed) return undefined
  const result = authenticate(request)
  if (!isPromise(result)) return identityOf(result)
  const identified = Promise.resolve(result as Promise<Identity>).then(identityOf)
  let stop = () => {}
  const over = new Promise<undefined>((resolve, reject) => {
    const gone = () => {
      socket?.destroy()
      resolve(undefined)
    }
    const timer = setTimeout(() => reject(new AuthenticateTimeoutError(TIMEOUT / 1_000)), TIMEOUT)
    peer?.once('end', gone).once('close', gone)
    socket?.read(0) // after 'upgrade' nobody reads from the socket, so nobody would notice its end
    stop = () => {
      clearTimeout(timer)
      peer?.off('end', gone).off('close', gone)
    }
  })
  try {
    return await Promise.race([identified, over])
  } finally {
    stop()
  }
}

/** Errors about what `authenticate` has returned, if they are the app's fault. */
const wrongAnswers = new WeakSet<object>()

function identityOf (answer: Identity): Identity {
  try {
    return checkIdentity(answer)
  } catch (error) {
    // A string that is not well-formed is a client's, and what a client causes is no error of the app.
    if (typeof answer?.user !== 'string' || answer.user.isWellFormed()) wrongAnswers.add(error as object)
    throw error
  }
}

/**
 * What a client is told when `authenticate` has thrown. Only a `ClientError`, or an error with a 4xx status code such
 * as those of @fastify/sensible and @fastify/jwt, keeps its text. Any other may contain what a client must not see.
 */
export function refusalOf (error: unknown): HttpError {
  if (error instanceof AuthenticateTimeoutError) return error
  if (error instanceof ClientError) return unauthorized(isStatus(error.code, 400) ? error.code : 401, error.message)
  const { statusCode, code, message, expose } = (error ?? {}) as HttpError & { expose?: boolean }
  if (hasFailed(error)) return failed(isBug(error) ? 500 : 503)
  if (statusCode === undefined) return unauthorized(401)
  if (isStatus(statusCode, 500)) return failed(statusCode)
  if (!isStatus(statusCode, 400)) return failed(500)
  // Our own errors are about a call of the app.
  if (String(code).startsWith('FST_CRWS_')) return unauthorized(401)
  return unauthorized(statusCode, expose === false ? undefined : message)
}

/** Whether `authenticate` has refused the client on purpose. Any other error is logged with its stack. */
export function isDeliberate (error: unknown): boolean {
  if (error instanceof ClientError || error instanceof AuthenticateTimeoutError) return true
  const { statusCode, code } = (error ?? {}) as HttpError
  return isStatus(statusCode, 400) && !String(code).startsWith('FST_CRWS_')
}

/** Whether `authenticate` itself has failed: by a bug, or because something it needs is down. */
export function hasFailed (error: unknown): boolean {
  return !isDeliberate(error) && (isSystemError(error) || isBug(error))
}

/**
 * A wrong answer is a bug, and so is a TypeError, but for two: one with a code, as Node's for a bad URL, is about its
 * input, and one with a cause may be `fetch`'s.
 */
function isBug (error: unknown): boolean {
  if (wrongAnswers.has(error as object)) return true
  if (!(error instanceof TypeError || error instanceof ReferenceError) || isSystemError(error)) return false
  return !('code' in error || 'statusCode' in error)
}

/** Whether the error, one of its causes or one of those it collects comes from the system: a database refuses, say. */
function isSystemError (error: unknown, depth = 0): boolean {
  if (!(error instanceof Error) || depth > MAX_CAUSES) return false
  if ('syscall' in error || 'errno' in error || TIMEOUTS.has(error.name)) return true
  const collected = error instanceof AggregateError ? error.errors.slice(0, MAX_CAUSES) : []
  return [error.cause, ...collected].some(one => isSystemError(one, depth + 1))
}

function unauthorized (statusCode: number, text = 'the credentials were not accepted'): HttpError {
  return Object.assign(new UnauthorizedError(text), { statusCode })
}

function failed (statusCode: number): HttpError {
  return Object.assign(new AuthenticateFailedError(), { statusCode })
}

function isStatus (value: unknown, hundreds: 400 | 500): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= hundreds && value < hundreds + 100
}
