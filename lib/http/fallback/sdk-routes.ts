import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Connection } from '../../core/connection.ts'
import { Mail } from '../../core/mail.ts'
import type { Core } from '../../core/core.ts'
import type { Broker } from '../../model/broker.ts'
import {
  BodyTooLargeError, PostLimitError, PostRateError, PostUnansweredError, SessionUnknownError, StreamRequestError
} from '../../model/errors.ts'
import type { Rejection } from '../../observability/metrics.ts'
import type { Fallback } from '../../options/fallback-checks.ts'
import type { Context } from '../../protocols/centrifugal/context.ts'
import { protobufCodec } from '../../protocols/centrifugal/protobuf-codec.ts'
import { SdkProtocol } from '../../protocols/centrifugal/protocol.ts'
import { eventCodec, lineCodec, readPost } from '../../protocols/centrifugal/streams.ts'
import type { Post } from '../../protocols/centrifugal/streams.ts'
import type { Deadlines } from '../../util/deadlines.ts'
import { USER } from '../admission.ts'
import { answer } from '../answer.ts'
import type { HttpError } from '../answer.ts'
import { FailedPosts } from './failed-posts.ts'
import type { HttpStream } from './http-stream.ts'
import { MAX_WAITING } from './posts.ts'
import type { PostAnswer } from './posts.ts'
import { StreamSessions } from './sessions.ts'
import type { StreamRoutes } from './stream-routes.ts'

/** The type of a body that is Protobuf; any other is JSON. */
const PROTOBUF_TYPE = 'application/octet-stream'
const JSON_TYPE = 'application/json'
const EVENTS_TYPE = 'text/event-stream'

/** A post as it travels to the instance that has the stream. */
interface Letter {
  readonly session: string
  readonly data: string
  /** True if `data` is Base64. */
  readonly binary: boolean
}

/** The SDKs' transports `http_stream` and `sse`, and the route for what their clients send. */
export class SdkRoutes {
  readonly #routes: StreamRoutes
  readonly #context: Context
  readonly #sessions: StreamSessions
  readonly #mail: Mail<Letter, PostAnswer>
  readonly #failed: FailedPosts
  #listens = false

  constructor (routes: StreamRoutes, context: Context, { registry }: Core, broker: Broker, deadlines: Deadlines) {
    this.#routes = routes
    this.#context = context
    this.#failed = new FailedPosts(context.options)
    this.#sessions = new StreamSessions(deadlines)
    this.#mail = new Mail(context.instance, broker, registry, context.observer, deadlines, letter => this.#read(letter))
  }

  add ({ httpStreamPath, ssePath, emulationPath }: Fallback): void {
    const routes = this.#routes
    if (httpStreamPath !== false) {
      const json = new SdkProtocol(lineCodec, this.#context, 'http_stream')
      const protobuf = new SdkProtocol(protobufCodec, this.#context, 'http_stream')
      routes.addStream('POST', httpStreamPath, (request, reply) => {
        const binary = isProtobuf(request)
        this.#open(request, reply, binary ? protobuf : json, binary ? PROTOBUF_TYPE : JSON_TYPE, bodyOf(request), binary)
      })
    }
    if (ssePath !== false) {
      const json = new SdkProtocol(eventCodec, this.#context, 'sse')
      routes.addStream('GET', ssePath, (request, reply) => {
        // It has commands, and the cookies of whoever follows it: somebody else may have written them.
        if (request.headers['sec-fetch-site'] === USER) return answer(reply, new StreamRequestError('a link cannot open it'))
        const { cf_connect: connect } = request.query as Record<string, unknown>
        this.#open(request, reply, json, EVENTS_TYPE, typeof connect === 'string' ? Buffer.from(connect) : undefined, false)
      })
    }
    if (emulationPath !== false) routes.addPosts(emulationPath, this.#post)
  }

  #open (
    request: FastifyRequest, reply: FastifyReply, protocol: SdkProtocol, type: string, connect: Buffer | undefined, binary: boolean
  ): void {
    // Without `connect` the client would not learn its session, so nothing could come after it.
    if (connect === undefined || connect.length === 0) {
      return answer(reply, new StreamRequestError('there is no connect command: send it in the body, or with sse in the query parameter cf_connect'))
    }
    const opened = this.#routes.open(request, reply, protocol, type)
    if (opened === undefined) return
    const { stream, connection } = opened
    this.#sessions.add(protocol.secretOf(connection), stream, connect, binary)
    if (this.#listens) stream.receive(connect, binary)
    else this.#listen(connection, stream, connect, binary)
  }

  /** Once posts of other instances arrive, or Redis is down: a client may post as soon as it has its session. */
  async #listen (connection: Connection, stream: HttpStream, connect: Buffer, binary: boolean): Promise<void> {
    this.#listens = await this.#mail.listen()
    if (connection.open) await stream.receive(connect, binary)
  }

  readonly #post = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const post = postOf(request)
    const { maxPayload } = this.#context.options
    if (post === undefined) answer(reply, new StreamRequestError('send { "session": …, "node": …, "data": … }, with the commands in data'))
    else if (post.data.length > maxPayload) answer(reply, new BodyTooLargeError(maxPayload))
    else {
      const [type, error] = await this.#rejectionOf(request, post) ?? []
      if (type === undefined || error === undefined) return reply.code(204).send()
      this.#context.observer.rejected(request, type, error.message, error.statusCode!)
      answer(reply, error)
    }
    return reply
  }

  async #rejectionOf (request: FastifyRequest, post: Post): Promise<readonly [Rejection, HttpError] | undefined> {
    const delivered = await this.#failed.run(request, () => this.#deliver(post), answer => answer !== 'taken')
    switch (delivered) {
      case 'taken': case 'ended': return undefined
      case undefined: return ['post_limit', new PostRateError()]
      case 'full': return ['post_limit', new PostLimitError(MAX_WAITING)]
      case 'gone': case 'unknown': return ['post_unknown', new SessionUnknownError()]
      default: return ['post_unanswered', new PostUnansweredError()] // other instances may answer anything
    }
  }

  async #deliver ({ node, session, data, binary }: Post): Promise<PostAnswer | 'unknown' | 'silent'> {
    if (node === this.#context.instance) return this.#sessions.take(session, data, binary)
    try {
      return await this.#mail.send(node, { session, data: data.toString(binary ? 'base64' : 'utf8'), binary })
    } catch (error) {
      this.#context.observer.callFailed('a post to another instance', error)
      return 'silent'
    }
  }

  /** Takes what a client has posted to another instance. */
  #read ({ session, data, binary }: Letter): PostAnswer | Promise<PostAnswer> {
    const { maxPayload } = this.#context.options
    if (typeof session !== 'string' || typeof data !== 'string') throw new Error('a post has a session and data')
    const bytes = Buffer.from(data, binary ? 'base64' : 'utf8')
    if (bytes.length > maxPayload) throw new Error(`a post has at most ${maxPayload} bytes`)
    return this.#sessions.take(session, bytes, binary)
  }
}

function isProtobuf ({ headers }: FastifyRequest): boolean {
  return headers['content-type']?.toLowerCase().startsWith(PROTOBUF_TYPE) === true
}

/** Takes the body away: a post that waits is counted by its data, and a body may have much else. */
function postOf (request: FastifyRequest): Post | undefined {
  const body = bodyOf(request)
  request.body = undefined
  return body && readPost(body, isProtobuf(request))
}

function bodyOf ({ body }: FastifyRequest): Buffer | undefined {
  return Buffer.isBuffer(body) ? body : undefined
}
