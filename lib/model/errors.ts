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
/** When the app already has a route where the plugin would add one of its own. `register` rejects. */
export const RouteTakenError = createError<[string, string, string]>(
  'FST_CRWS_ROUTE_TAKEN', 'The route GET %s already exists. Choose another path with the option %s, or leave the route out with %s: false'
)
/** When the plugin is registered a second time on one server, even in a scope that does not see the first. */
export const AlreadyRegisteredError = createError(
  'FST_CRWS_ALREADY_REGISTERED',
  'The plugin is already registered, here or in another scope of the app. Register it once, before the parts of the app that use it'
)

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
/** When `authenticate` throws or returns no valid identity. A status code of the error takes the place of 401. */
export const UnauthorizedError = createError<[string]>('FST_CRWS_UNAUTHORIZED', 'Not authenticated: %s', 401)
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
/** When an upgrade is sent to a route that is not a WebSocket route. */
export const NoWebSocketRouteError = createError(
  'FST_CRWS_NO_WEBSOCKET_ROUTE', 'This is not a WebSocket endpoint: send the request without Upgrade', 426
)

/**
 * When the app names a channel that is empty, longer than 255 bytes, not a string, has control characters, or half a
 * surrogate pair.
 */
export const InvalidChannelError = createError<[string, string]>('FST_CRWS_INVALID_CHANNEL', 'Invalid channel %s: %s', 400, TypeError)
/** When the app publishes or sends data that JSON cannot carry. */
export const InvalidDataError = createError<[string]>(
  'FST_CRWS_INVALID_DATA', 'Data cannot be sent: %s. Send anything that JSON can carry, or a Buffer', 400, TypeError
)
/** When the app calls something that outlasts the call, such as `listen`, and is shutting down. */
export const ClosingError = createError<[string]>('FST_CRWS_CLOSING', 'This app is shutting down, so %s starts nothing. Another instance can', 503)
/** When the text of a stream has more bytes than it may have. The stream ends there. */
export const StreamTooLongError = createError<[string, number]>(
  'FST_CRWS_STREAM_TOO_LONG', 'Stream %s has more than %d bytes, its maximum. It ends here: continue in another stream', 413
)
/** When several resume a stream at a time: one does, and the others get this. */
export const StreamTakenError = createError<[string]>('FST_CRWS_STREAM_TAKEN', 'Stream %s is resumed already, by another call. Leave it to that one', 409)
/** When `app.realtime.send` gets more data than a command between instances may carry. */
export const MessageTooLargeError = createError<[number, number]>(
  'FST_CRWS_MESSAGE_TOO_LARGE',
  'A message to connections has %d bytes, at most %d are allowed. Publish it to a channel, which has no such limit', 413, RangeError
)
/** When any other argument of a call, or a field that a handler of the app returns, is not allowed. */
export const InvalidArgumentError = createError<[string, string, string]>(
  'FST_CRWS_INVALID_ARGUMENT', 'Invalid %s: got %s, expected %s', 400, TypeError
)
/** When the app subscribes a connection that has ended, or that ends meanwhile. */
export const ConnectionClosedError = createError<[string]>('FST_CRWS_CONNECTION_CLOSED', 'Connection %s is closed', 410)
/** When `since` names an epoch that is gone: Redis has lost the history, or it has expired. */
export const UnrecoverablePositionError = createError<[string]>(
  'FST_CRWS_UNRECOVERABLE_POSITION',
  'The epoch of channel %s has changed, so earlier positions are void. Read its history again without since', 416
)
/** When the history no longer has everything after the `since` of `listen`. */
export const PositionGoneError = createError<[string]>(
  'FST_CRWS_UNRECOVERABLE_POSITION',
  'The history of channel %s no longer has everything after since. Listen without since, and read anew what you keep', 416
)

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

/** Codes of errors that have a log entry of their own (Redis is down), or are no failure (the client has gone). */
export const ALREADY_REPORTED: ReadonlySet<string> = new Set([
  'FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_NO_ANSWER', 'FST_CRWS_CONNECTION_CLOSED'
])
