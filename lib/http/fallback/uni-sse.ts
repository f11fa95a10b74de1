import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES } from 'node:http'
import type { Context } from '../../protocols/centrifugal/context.ts'
import { disconnectEvent } from '../../protocols/uni-sse/encoder.ts'
import { identifying } from '../../protocols/uni-sse/identity.ts'
import { uniSseProtocol } from '../../protocols/uni-sse/protocol.ts'
import { connectionRefusal, isTemporary } from '../../protocols/uni-sse/refusals.ts'
import { readRequest } from '../../protocols/uni-sse/request.ts'
import type { Admission } from '../admission.ts'
import { answer, retryAfter } from '../answer.ts'
import type { HttpError } from '../answer.ts'
import type { StreamRoutes } from './stream-routes.ts'
import { UniSseStream } from './uni-sse-stream.ts'

/** Adds the route for clients that only listen, such as a browser's own `EventSource`. */
export async function addUniSse (
  app: FastifyInstance, path: string, context: Context, forAll: Admission, routes: StreamRoutes
): Promise<void> {
  const { options, connections, tokens } = context
  const admission = forAll.with(identifying(options.authenticate, tokens))

  const open = (request: FastifyRequest, reply: FastifyReply): void => {
    const asked = readRequest(request)
    if (asked.over) {
      reply.code(204).send()
      return
    }
    const refusal = admission.refusal(request)
    if (refusal !== undefined) return answer(reply, connectionRefusal(refusal))
    const stream = new UniSseStream(reply)
    connections.accept(stream, uniSseProtocol(context, stream, asked), admission.identity(request), request)
  }

  await app.register(async (scope) => {
    scope.addHook('onSend', answerEventSource)
    routes.with(scope, admission).addStream('GET', path, open)
  })
}

/**
 * `EventSource` gives up at every status but 200. One that should try again is told so in the only way it knows: by a
 * stream that ends.
 */
function answerEventSource (
  { headers: { accept } }: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error: null, payload: unknown) => void
): void {
  if (accept !== 'text/event-stream' || !isTemporary(reply.statusCode) || typeof payload !== 'string') return done(null, payload)
  const seconds = Number(reply.getHeader('retry-after')) || Number(retryAfter()) // the app may name a date, or nothing
  const event = disconnectEvent({ code: reply.statusCode, reason: reasonOf(payload, reply.statusCode), retry: seconds * 1_000 })
  reply.removeHeader('retry-after').removeHeader('content-length').type('text/event-stream').header('cache-control', 'no-store').code(200)
  done(null, event)
}

/** The message of an answer, which need not be one of ours: the app's hooks and its error handler may send any text. */
function reasonOf (payload: string, statusCode: number): string {
  const ofStatus = STATUS_CODES[statusCode] ?? String(statusCode)
  try {
    const { message } = JSON.parse(payload) as Partial<HttpError>
    return typeof message === 'string' ? message : ofStatus
  } catch {
    return ofStatus // no JSON, or null
  }
}
