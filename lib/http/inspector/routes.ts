import type { FastifyInstance, FastifyReply, FastifyRequest, LogLevel } from 'fastify'
import type { Core } from '../../core/core.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Observer } from '../../observability/observer.ts'
import type { InspectOptions } from '../../options/inspect-options.ts'
import { describe } from '../../util/thrown.ts'
import { answer } from '../answer.ts'
import { disconnect, publish } from './actions.ts'
import { assets } from './assets.ts'
import { refuseCrossSite, whoLooks } from './authorization.ts'
import type { Refusal } from './authorization.ts'
import { overview } from './overview.ts'
import { checkView } from './view.ts'

/** Bytes of a request, with what is published. */
const MAX_BODY = 262_144
const TYPES: Record<string, string> = {
  html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8'
}
/** Names of users and channels, and payloads, may say anything. So nothing runs and nothing loads but our own files. */
const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'x-robots-tag': 'noindex'
}

/**
 * Makes a plugin of the page's routes, each of which asks `authorize`. Its prefix is `inspectPath` without a slash at
 * the end. Filters travel in bodies: addresses end in the logs of requests, and users are named in them.
 */
export function inspectorRoutes (
  { authorize }: InspectOptions, namespaces: ChannelNamespaces, core: Core, observer: Observer
) {
  const names = new WeakMap<FastifyRequest, string>()
  const failed = (err: unknown) => {
    const call = 'inspect.authorize'
    observer.entryOnce('call.failed', { call, err }, `Call of ${call} failed: ${describe(err)}`) // anybody may cause it
  }

  return async (scope: FastifyInstance, { logLevel = 'warn' }: { logLevel?: LogLevel }): Promise<void> => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('application/json', { parseAs: 'string', bodyLimit: MAX_BODY }, scope.getDefaultJsonParser('error', 'error'))
    scope.setErrorHandler(answerError)
    scope.addHook('onRequest', async (request, reply) => {
      reply.headers(HEADERS)
      if (request.method === 'POST') refuseCrossSite(request)
      names.set(request, await whoLooks(authorize, request, failed))
    })

    const quiet = { logLevel } // the page asks every two seconds
    const { 'index.html': page = '', ...files } = assets
    // At the prefix itself, and with a slash at its end: people type both.
    scope.get('/', async (request, reply) => reply.type(TYPES.html!).send(page.replaceAll('{{base}}', baseOf(scope.prefix, request.url))))
    for (const [name, text] of Object.entries(files)) {
      scope.get(`/${name}`, quiet, async (_request, reply) => reply.type(TYPES[name.replace(/^.*\./, '')]!).send(text))
    }
    scope.post('/view', quiet, ({ body }) => overview(core, namespaces, checkView(body)))
    scope.post('/publish', request => publish(core.publisher, observer, request, names.get(request)!))
    scope.post('/disconnect', request => disconnect(core.control, observer, request, names.get(request)!))
  }
}

/** Where the page finds its files: relative to itself, because a proxy may have another path for it. */
function baseOf (prefix: string, url: string): string {
  const [path = ''] = url.split('?', 1)
  if (path.endsWith('/')) return '.'
  return './' + prefix.slice(prefix.lastIndexOf('/') + 1).replace(/[^\w.~-]/g, encodeURIComponent)
}

/** Answers our own errors, and those that are about the request. All others are the app's to handle. */
function answerError (error: Refusal, _request: FastifyRequest, reply: FastifyReply): void {
  if (!error.code?.startsWith('FST_CRWS_') && (error.statusCode ?? 500) >= 500) throw error
  if (error.headers !== undefined) reply.headers(error.headers)
  answer(reply, error)
}
