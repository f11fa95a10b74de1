import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { refusalFor } from '../../model/client-error.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { ErrorReply } from '../../model/error-replies.ts'
import { ALREADY_REPORTED, ApiRequestError } from '../../model/errors.ts'
import type { Observer } from '../../observability/observer.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'
import { describe } from '../../util/thrown.ts'
import { answer } from '../answer.ts'
import type { HttpError } from '../answer.ts'
import { refuseUpgrade } from '../other-routes.ts'
import { ApiAccess } from './access.ts'
import { apiCalls } from './calls.ts'
import type { ApiContext } from './calls.ts'
import { isObject } from './params.ts'

/** Commands of one request at most. */
const MAX_COMMANDS = 10_000
/** Methods that only Centrifugo has, or Centrifugo PRO. Any other name is unknown. */
const NOT_HERE = new RegExp('^(rpc|map_\\w+|shared_poll_\\w+|connections|(update|get|delete)_user_status|(un)?block_user|revoke_token|' +
  'invalidate_user_tokens|device_\\w+|user_topic_\\w+|send_push_notification|update_push_status|cancel_push)$')
/** HTTP statuses of errors for callers who ask for them, as Centrifugo has them (its "transport error mode"). */
const STATUSES: ReadonlyMap<number, number> = new Map([[100, 500], [102, 404], [104, 404], [106, 400], [107, 400], [108, 400], [112, 416]])

type Answer = { result: object } | { error: ErrorReply }

/** Centrifugo's server API over HTTP: a route for each method, one for batches, and the old one for all of them. */
class Api {
  readonly #context: ApiContext
  readonly #observer: Observer

  constructor (parts: Omit<ApiContext, 'attempt'>, observer: Observer) {
    this.#context = { ...parts, attempt: (method, run) => this.#attempt(method, run) }
    this.#observer = observer
  }

  /** `POST /api/publish` and the like. */
  readonly method = async (request: FastifyRequest, reply: FastifyReply): Promise<object> => {
    const { '*': method = '' } = request.params as { '*'?: string }
    const params = parse(bodyOf(request))
    if (method === 'batch') return this.#batch(params)
    const answered = await this.#call(method, params)
    if (!('error' in answered) || request.headers['x-centrifugo-error-mode'] !== 'transport') return answered
    reply.code(STATUSES.get(answered.error.code) ?? 500)
    return answered.error
  }

  /** `POST /api`: commands `{ method, params }`, one a line, and as many lines in the answer. */
  readonly commands = async (request: FastifyRequest, reply: FastifyReply): Promise<string> => {
    const body = bodyOf(request)
    const commands = parseLines(body)
    checkCount(commands.length)
    const answers: string[] = []
    for (const command of commands) {
      if (!isObject(command) || typeof command.method !== 'string') throw new ApiRequestError('a command is { "method": …, "params": … }')
      const { id, method, params = {} } = command as { id?: unknown, method: string, params?: unknown }
      answers.push(JSON.stringify({ ...(Number.isSafeInteger(id) && { id }), ...await this.#call(method.toLowerCase(), params ?? {}) }))
    }
    reply.type('application/json')
    return answers.join('\n')
  }

  async #batch (given: unknown): Promise<object> {
    const { commands, parallel = false } = isObject(given) ? given : {}
    if (!Array.isArray(commands)) throw new ApiRequestError('a batch is { "commands": [{ "publish": … }], "parallel": false }')
    checkCount(commands.length)
    if (parallel === true) return { replies: await Promise.all(commands.map(command => this.#reply(command))) }
    const replies: object[] = []
    for (const command of commands) replies.push(await this.#reply(command))
    return { replies }
  }

  /** The answer to one command of a batch has its result under the name of the method. */
  async #reply (command: unknown): Promise<object> {
    const [entry, ...more] = isObject(command) ? Object.entries(command).filter(([, params]) => params !== null) : []
    if (entry === undefined || more.length > 0) return this.#call('', {})
    const [method, params] = entry
    const answered = await this.#call(method, params)
    return 'error' in answered ? answered : { [method]: answered.result }
  }

  async #call (method: string, params: unknown): Promise<Answer> {
    return this.#attempt(method, async () => {
      const call = Object.hasOwn(apiCalls, method) ? apiCalls[method] : undefined
      if (call === undefined) throw new ReplyError(NOT_HERE.test(method) ? clientErrors.notAvailable : clientErrors.methodNotFound)
      return { result: await call(this.#context, params) }
    }) as Promise<Answer>
  }

  async #attempt (method: string, run: () => Promise<object>): Promise<object> {
    try {
      return await run()
    } catch (error) {
      const { reply, detail } = replyOf(error)
      const name = Object.hasOwn(apiCalls, method) ? method : 'an unknown method'
      if (detail === undefined) {
        this.#observer.entryOnce('api.error', { method: name, err: error }, `A call of ${name} over HTTP failed: ${describe(error)}`)
      } else if (detail !== '') {
        const fields = { method: name, error: reply.code, reason: detail }
        this.#observer.entryOnce('api.failed', fields, `A call of ${name} over HTTP was answered with error ${reply.code}: ${detail}`)
      }
      return { error: reply }
    }
  }
}

/** The reply, and the reason for the log: '' for what has an entry already, undefined for a bug. */
function replyOf (error: unknown): { reply: ErrorReply, detail: string | undefined } {
  const refusal = refusalFor(error)
  if (refusal !== undefined) return refusal
  const { code = '', statusCode, message } = (error ?? {}) as HttpError
  if (code.startsWith('FST_CRWS_') && statusCode === 400) {
    return { reply: { ...clientErrors.badRequest, message: `${clientErrors.badRequest.message}: ${message}` }, detail: message! }
  }
  const coded = code.startsWith('FST_CRWS_REDIS_')
  return { reply: clientErrors.internal, detail: ALREADY_REPORTED.has(code) ? '' : coded ? describe(error) : undefined }
}

function bodyOf ({ body }: FastifyRequest): string {
  if (!Buffer.isBuffer(body) || body.length === 0) throw new ApiRequestError('it has no body')
  return body.toString()
}

function parse (json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    throw new ApiRequestError('the body is not JSON')
  }
}

/** One command may have line breaks in it, if it is the only one. */
function parseLines (body: string): unknown[] {
  try {
    return [JSON.parse(body)]
  } catch {
    return body.split('\n').filter(line => line.trim() !== '').map(parse)
  }
}

function checkCount (count: number): void {
  if (count > MAX_COMMANDS) throw new ApiRequestError(`at most ${MAX_COMMANDS} commands are allowed in one request`)
}

/** Adds the routes in a scope of their own: hooks of the app run, and its other routes parse their bodies as before. */
export async function addRoutes (
  app: FastifyInstance, options: ResolvedOptions, parts: Omit<ApiContext, 'attempt'>, observer: Observer
): Promise<void> {
  const { apiPath, api: access, logLevel, logSerializers } = options
  const api = new Api(parts, observer)
  const { onRequest } = new ApiAccess(access!, observer)
  const route = {
    ...(logLevel !== undefined && { logLevel }),
    ...(logSerializers !== undefined && { logSerializers }),
    onRequest: [refuseUpgrade, onRequest]
  }
  await app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    // A key is in a header, which no browser sends to another site unasked: any type will do, as for Centrifugo. But
    // `authorize` may go by cookies, and browsers send forms with those.
    scope.addContentTypeParser(access!.authorize === undefined ? '*' : 'application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    scope.setErrorHandler<HttpError>((error, request, reply) => {
      const { statusCode = 500, code, message } = error
      if (statusCode >= 500) throw error // to the error handler of the app
      observer.entryOnce('api.refused', { status: statusCode, code }, `A request to the HTTP API was refused: ${message}`, request)
      answer(reply, error)
    })
    scope.post(`${apiPath}`, route, api.commands)
    scope.post(`${apiPath}/*`, route, api.method)
  })
}
