import createError from '@fastify/error'

// Every error of this package. Match on the code. The message says what was wrong, what is allowed and what to do.
// An error with a status code answers an HTTP request: an upgrade, or a route of the app that did not catch it.

/**
 * When options are misspelt, at any depth, and nothing else is wrong. `register` rejects, so the process does not start
 * half configured. The message names every one of them.
 */
export const UnknownOptionError = createError<[string]>('FST_CRWS_UNKNOWN_OPTION', '%s')
/**
 * When the value of an option, or of the environment variable in its place, is not allowed. `register` rejects. The
 * message names everything that is wrong with the options.
 */
export const InvalidOptionError = createError<[string]>('FST_CRWS_INVALID_OPTION', '%s')
/**
 * When the app's validator compiler does not take a `schema` of the options. `app.ready` rejects. The message names
 * every one of them, with its namespace or method.
 */
export const InvalidSchemaError = createError<[string]>(
  'FST_CRWS_INVALID_SCHEMA', 'Invalid schema %s. The validator compiler of the app takes JSON Schema, or whatever the app has set it up for'
)
/** When a request to the HTTP API has no key, or a wrong one. */
export const ApiKeyError = createError(
  'FST_CRWS_API_KEY', 'The API key is missing or wrong: send the key of the option api in the header X-API-Key', 401
)
/** When `api.authorize` does not let a request to the HTTP API through. */
export const ApiForbiddenError = createError('FST_CRWS_API_FORBIDDEN', 'This request to the HTTP API is not allowed', 403)
/** When the body of a request to the HTTP API is not what the API takes. */
export const ApiRequestError = createError<[string]>('FST_CRWS_API_REQUEST', 'Bad request to the HTTP API: %s', 400)
/** When the app already has a route where the plugin would add one of its own. `register` rejects. */
export const RouteTakenError = createError<[string, string, string]>(
  'FST_CRWS_ROUTE_TAKEN', 'The route %s already exists. Choose another path with the option %s, or leave the route out with %s: false'
)
/** When the plugin is registered a second time on one server, even in a scope that does not see the first. */
export const AlreadyRegisteredError = createError(
  'FST_CRWS_ALREADY_REGISTERED',
  'The plugin is already registered, here or in another scope of the app. Register it once, before the parts of the app that use it'
)

const SchemaFailed = createError<[string, string, ErrorOptions]>(
  'FST_CRWS_SCHEMA_FAILED', '%s failed: %s. A schema must refuse data by its result and not throw, and its output must be JSON or a Buffer'
)
/**
 * When a schema throws, or its output is something that JSON cannot carry. The client gets error 100. `cause` has the
 * error.
 */
export class SchemaFailedError extends SchemaFailed {
  constructor (name: string, text: string, cause: unknown) { super(name, text, { cause }) }
}

/** When an upgrade comes while `maxConnections` are open. */
export const CapacityError = createError<[number]>(
  'FST_CRWS_CAPACITY', 'This instance holds %d connections, its maximum. Try again: another instance may have room', 503
)
/** When an upgrade comes while memory is short: from nine tenths of `memoryLimit` until there is room again. */
export const MemoryError = createError(
  'FST_CRWS_MEMORY', 'This instance is short of memory. Try again: another instance may have room', 503
)
/** When an upgrade comes after SIGTERM, or after `app.close()` was called. */
export const DrainingError = createError(
  'FST_CRWS_DRAINING', 'This instance is shutting down. Connect again: another instance will answer', 503
)
/** When the Origin of a browser's upgrade is not in `allowedOrigins`. */
export const OriginError = createError<[string]>(
  'FST_CRWS_ORIGIN', 'Origin %s is not allowed. Add it to the option allowedOrigins', 403
)
/** When `authenticate` refuses a client by what it throws. A 4xx status code of the error takes the place of 401. */
export const UnauthorizedError = createError<[string]>('FST_CRWS_UNAUTHORIZED', 'Not authenticated: %s', 401)
/**
 * When `authenticate` itself fails: by a bug (500), or because something that it needs is down (503). It says nothing
 * about the client. A 5xx status code of what it throws takes the place of 503.
 */
export const AuthenticateFailedError = createError(
  'FST_CRWS_AUTHENTICATE_FAILED', 'The credentials could not be checked: the server has failed, and its log says why. Try again later', 503
)
/** When `authenticate` neither returns nor throws in time. */
export const AuthenticateTimeoutError = createError<[number]>(
  'FST_CRWS_AUTHENTICATE_TIMEOUT', 'The credentials were not checked within %d seconds. Try again', 503
)
/** When one client address sends more upgrades than `rateLimit.connections` allows. */
export const RateLimitError = createError<[number, string]>(
  'FST_CRWS_RATE_LIMIT', 'Too many connections from this address: at most %d. Try again in %s', 429
)
/** When a request to a WebSocket route is not an upgrade, or asks for another version of the protocol. */
export const UpgradeRequiredError = createError<[string]>('FST_CRWS_UPGRADE_REQUIRED', 'This is a WebSocket endpoint: %s', 426)
/** When `inspect.authorize` returns no name. If it throws, the answer is as for `authenticate`. */
export const InspectForbiddenError = createError(
  'FST_CRWS_INSPECT_FORBIDDEN', 'You may not look at this page: inspect.authorize has returned no name for you', 403
)
/** When a page of another site makes a browser ask the page of `inspectPath` for something. */
export const CrossSiteError = createError<[string]>(
  'FST_CRWS_CROSS_SITE', 'This request comes from another site (%s). Only the page itself may send it, from its own origin', 403
)
/** When an upgrade is sent to a route that is not a WebSocket route. */
export const NoWebSocketRouteError = createError(
  'FST_CRWS_NO_WEBSOCKET_ROUTE', 'This is not a WebSocket endpoint: send the request without Upgrade', 426
)

/** When a request to a route of `fallback` has another method than the route takes. */
export const MethodError = createError<[string]>('FST_CRWS_METHOD', 'This route takes %s only', 405)
/** When a request to a route of `fallback` has a body, or a query, that the transport does not have. */
export const StreamRequestError = createError<[string]>('FST_CRWS_STREAM_REQUEST', 'Bad request: %s', 400)
/** When the body of a request to a route of `fallback` is larger than a message may be. */
export const BodyTooLargeError = createError<[number]>(
  'FST_CRWS_BODY_TOO_LARGE', 'The message is too large: at most %d bytes are allowed, the option maxPayload', 413
)
/** When the body of a request to a route of `fallback` does not arrive in time. */
export const BodyTimeoutError = createError<[number]>('FST_CRWS_BODY_TIMEOUT', 'The body did not arrive within %d seconds. Send it again', 408)
/** When as many bodies as `maxConnections` are still arriving at the routes of `fallback`: each takes memory. */
export const BodiesError = createError<[number]>(
  'FST_CRWS_BODIES', 'The bodies of %d other requests are still arriving here. The limit is maxConnections. Send it again', 503
)
/** When a post is for a session that no instance has: its stream has ended, or its instance has gone. */
export const SessionUnknownError = createError(
  'FST_CRWS_SESSION_UNKNOWN', 'There is no stream with this session any more. Connect again', 404
)
/** When more posts of one stream wait than are allowed. */
export const PostLimitError = createError<[number]>(
  'FST_CRWS_POST_LIMIT', 'At most %d messages of this stream may wait to be handled. This one was dropped; send more slowly', 429
)
/** When one client address has sent more posts without a stream than `rateLimit.connections` allows. */
export const PostRateError = createError(
  'FST_CRWS_POST_RATE', 'Too many messages from this address were for streams that take none of them. Connect again, and send more slowly', 429
)
/** When the instance that has the stream has not answered a post, or Redis is down. */
export const PostUnansweredError = createError(
  'FST_CRWS_POST_UNANSWERED', 'The instance that has this stream did not answer. Whether it got the message is unknown; connect again', 503
)
/** When an `EventSource` asks for a channel that it may not subscribe to. The status goes with the error's number. */
export const ChannelRefusedError = createError<[string, string, number, advice: string]>(
  'FST_CRWS_CHANNEL_REFUSED', 'Channel %s was refused: %s (%d). %s', 403
)
/** When the app ends the connection of an `EventSource` before its stream begins. The status goes with the code. */
export const ConnectionRefusedError = createError<[string, number]>('FST_CRWS_CONNECTION_REFUSED', 'The connection was refused: %s (%d)', 403)

/**
 * When the app names a channel that is empty, longer than 255 bytes, not a string, has control characters, or half a
 * surrogate pair.
 */
export const InvalidChannelError = createError<[string, string]>('FST_CRWS_INVALID_CHANNEL', 'Invalid channel %s: %s', 400, TypeError)
/** When the app publishes or sends data that JSON cannot carry. */
export const InvalidDataError = createError<[string]>(
  'FST_CRWS_INVALID_DATA', 'Data cannot be sent: %s. Send anything that JSON can carry, or a Buffer', 400, TypeError
)
/** When `app.realtime.send` gets more data than a command between instances may carry. */
export const MessageTooLargeError = createError<[number, number]>(
  'FST_CRWS_MESSAGE_TOO_LARGE',
  'A message to connections has %d bytes, but at most %d are allowed. Publish it to a channel, which has no such limit', 413, RangeError
)
/** When the app starts something that outlasts the call, such as `listen`, while it is shutting down. */
export const ClosingError = createError<[string]>('FST_CRWS_CLOSING', 'This app is shutting down, so %s cannot start. Another instance can start it', 503)
/** When the text of a stream has more bytes than it may have. The stream ends there. */
export const StreamTooLongError = createError<[string, number]>(
  'FST_CRWS_STREAM_TOO_LONG', 'Stream %s has more than %d bytes, its maximum. It ends here: continue in another stream', 413
)
/** When another call has resumed a stream: of several that try one does it, and whoever published it before stops. */
export const StreamTakenError = createError<[string]>('FST_CRWS_STREAM_TAKEN', 'Another call has resumed stream %s. Leave it to that call', 409)
/** When any other argument of a call, or a field that a handler of the app returns, is not allowed. */
export const InvalidArgumentError = createError<[string, string, string]>(
  'FST_CRWS_INVALID_ARGUMENT', 'Invalid %s: got %s, expected %s', 400, TypeError
)
/** When the app subscribes a connection that has ended, or that ends meanwhile. */
export const ConnectionClosedError = createError<[string]>('FST_CRWS_CONNECTION_CLOSED', 'Connection %s is closed', 410)
/** When a publisher of `createPublisher` is used after its `close`. */
export const PublisherClosedError = createError<[string]>(
  'FST_CRWS_PUBLISHER_CLOSED', 'The publisher is closed: %s was called after close(). Create another one, or close it later'
)
const UnrecoverablePosition = createError<[string, string]>('FST_CRWS_UNRECOVERABLE_POSITION', 'Channel %s cannot continue from since: %s', 416)

/**
 * When `since` names an epoch that is gone, because Redis has lost the history, or it has expired. `listen` also throws
 * it when the history no longer has everything after `since`.
 */
export class UnrecoverablePositionError extends UnrecoverablePosition {
  constructor (channel: string, reason = 'its epoch has changed, so earlier positions are void. Read its history again without since') {
    super(channel, reason)
  }
}

/** When a snapshot of `onSubscribe` would have a gap. The client asks again, and `onSubscribe` reads a newer one. */
export const SnapshotGapError = createError<[string, string]>(
  'FST_CRWS_SNAPSHOT_GAP', 'The history of channel %s no longer has everything after the since of onSubscribe: %s', 409
)

// The messages of these three may reach an end user, in Fastify's error reply. `cause` has the detail, such as an
// address.
const RedisUnavailable = createError('FST_CRWS_REDIS_UNAVAILABLE', 'Redis is down. Nothing was stored; try again', 503)
const RedisNoAnswer = createError(
  'FST_CRWS_REDIS_NO_ANSWER',
  'Redis did not answer. Whether the command took effect is unknown; try again with the same idempotencyKey', 503
)
const RedisRefused = createError('FST_CRWS_REDIS_REFUSED', 'Redis refused the command. The cause of this error says why', 503)

/** When Redis is down, before a command is sent to it. Nothing was stored. */
export class RedisUnavailableError extends RedisUnavailable {
  constructor (reason: string) { super({ cause: new Error(reason) }) }
}
/** When no reply comes within two seconds, or the Redis connection is lost meanwhile. The command may have been run. */
export class RedisNoAnswerError extends RedisNoAnswer {
  constructor (reason: string) { super({ cause: new Error(reason) }) }
}
/** When Redis replies with an error: it is out of memory or read-only, for example. */
export class RedisRefusedError extends RedisRefused {
  constructor (reason: string) { super({ cause: new Error(reason) }) }
}

/** When a plain client sends faster than `rateLimit.messages` allows. It gets code and message as {"type":"error"}. */
export const MessageRateError = createError<[number, number]>(
  'FST_CRWS_MESSAGE_RATE', 'Too many messages: at most %d in %d ms. This one was not handled; send more slowly', 429
)

/** When a client has not answered a request of your app in time. A later answer is ignored. */
export const RequestTimeoutError = createError<[string, number]>(
  'FST_CRWS_REQUEST_TIMEOUT', 'The client did not answer the request %s within %d ms. Give it more time with { timeout }, or ask again', 504
)
/** When your app sends a request to a client that speaks the SDKs' protocol. */
export const RequestUnsupportedError = createError<[string]>(
  'FST_CRWS_REQUEST_UNSUPPORTED',
  'The client of connection %s is an SDK, whose protocol has no requests to clients. Let the client call a method (option methods), ' +
  'or send it a message and take its answer in onMessage', 501
)
/** When your app has more requests pending at one client than are allowed. */
export const RequestLimitError = createError<[string, number]>(
  'FST_CRWS_REQUEST_LIMIT', 'Connection %s has not answered %d requests, which is the maximum. Await them before you send more', 429
)
const RequestRefused = createError<[string, number, string]>(
  'FST_CRWS_REQUEST_REFUSED', 'The client answered the request %s with error %d: %s', 502
)

/** When a client has answered a request of your app with an error, or with something that cannot be used. */
export class RequestRefusedError extends RequestRefused {
  /** Code and message from the client; 107 if its answer cannot be used. */
  readonly reply: { readonly code: number, readonly message: string }

  constructor (method: string, reply: RequestRefusedError['reply']) {
    super(method, reply?.code, reply?.message)
    this.reply = reply
  }
}

/** Codes of errors of a Redis that is down, does not answer or refuses. */
export const REDIS_FAILURES: ReadonlySet<unknown> = new Set([
  'FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_NO_ANSWER', 'FST_CRWS_REDIS_REFUSED'
])

/**
 * Codes of errors that clients cause by their answer, by not answering, or by asking for a stream that another call has
 * resumed: no handler of your app has failed.
 */
export const CAUSED_BY_CLIENT: ReadonlySet<string> = new Set(['FST_CRWS_REQUEST_TIMEOUT', 'FST_CRWS_REQUEST_REFUSED', 'FST_CRWS_STREAM_TAKEN'])

/** Codes of errors that have a log entry of their own (Redis is down), or are no failure (the client has gone). */
export const ALREADY_REPORTED: ReadonlySet<string> = new Set([
  'FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_NO_ANSWER', 'FST_CRWS_CONNECTION_CLOSED', ...CAUSED_BY_CLIENT
])
