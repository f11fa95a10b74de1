import type { FastifyInstance } from 'fastify'
import type { Core } from '../../core/core.ts'
import type { Broker } from '../../model/broker.ts'
import { BodiesError } from '../../model/errors.ts'
import type { Context } from '../../protocols/centrifugal/context.ts'
import { Deadlines } from '../../util/deadlines.ts'
import type { Admission } from '../admission.ts'
import { answer } from '../answer.ts'
import type { HttpError } from '../answer.ts'
import type { Limiter } from '../rate-limit.ts'
import { bodyReader } from './body.ts'
import { Cors } from './cors.ts'
import { SdkRoutes } from './sdk-routes.ts'
import { StreamRoutes } from './stream-routes.ts'

/** Bytes of a post beside what the client sends: names of fields, and the ids of the session and the instance. */
const ENVELOPE = 1_024
/** JSON in a JSON string: a quotation mark or a backslash takes two bytes there. */
const ESCAPED = 2

/** Adds the routes of `fallback` in a scope of their own: the app's hooks run, and its other routes parse as before. */
export async function addFallback (
  app: FastifyInstance, core: Core, broker: Broker, admission: Admission, limiter: Limiter, context: Context
): Promise<void> {
  const { fallback, allowedOrigins, maxConnections, maxPayload } = context.options
  if (fallback === false) return
  const deadlines = new Deadlines()
  await app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', bodyReader(ESCAPED * maxPayload + ENVELOPE, maxPayload, maxConnections, deadlines))
    // Caches may keep a 204 or a 404 unasked, which depend on more than the URL.
    scope.addHook('onRequest', (_request, reply, done) => {
      reply.header('cache-control', 'no-store')
      done()
    })
    scope.setErrorHandler<HttpError>((error, request, reply) => {
      const { statusCode = 500 } = error
      if (error instanceof BodiesError) context.observer.rejected(request, 'capacity', error.message, statusCode)
      else if (statusCode >= 500) throw error // to the error handler of the app
      answer(reply, error)
    })
    const cors = new Cors(admission, allowedOrigins === '*')
    const routes = new StreamRoutes(scope, core.connections, admission, limiter, cors)
    new SdkRoutes(routes, context, core, broker, deadlines).add(fallback)
    const { uniSsePath } = fallback
    if (uniSsePath === false) return
    await (await import('./uni-sse.ts')).addUniSse(scope, uniSsePath, context, admission, routes)
    const { answerAfterClose } = await import('./after-close.ts')
    answerAfterClose(app, scope.prefix + uniSsePath, admission)
  })
}
