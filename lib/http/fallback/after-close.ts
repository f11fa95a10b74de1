import type { FastifyInstance } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { disconnectEvent } from '../../protocols/uni-sse/encoder.ts'
import type { Admission } from '../admission.ts'
import { retryAfter } from '../answer.ts'

/**
 * Answers `EventSource` from `app.close()` on, which never reaches Fastify's router: at Fastify's own 503 it would give
 * up, though another instance could serve it. `path`: with the prefix.
 */
export function answerAfterClose (app: FastifyInstance, path: string, admission: Admission): void {
  app.addHook('preClose', async () => {
    const { server } = app
    const others = server.listeners('request')
    server.removeAllListeners('request')
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (request.headers.accept === 'text/event-stream' && request.url?.split('?', 1)[0] === path) {
        return tellToReturn(request, response, admission.rejectAfterClose(request, path).message)
      }
      for (const other of others) other.call(server, request, response)
    })
  })
}

/** Any page may read it: it says nothing of the app, and one that may not would give up. */
function tellToReturn ({ headers: { origin }, httpVersionMajor }: IncomingMessage, response: ServerResponse, reason: string): void {
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    ...httpVersionMajor === 1 && { connection: 'close' },
    ...origin !== undefined && { 'access-control-allow-origin': origin, 'access-control-allow-credentials': 'true' }
  })
  response.end(disconnectEvent({ code: 503, reason, retry: Number(retryAfter()) * 1_000 }))
}
