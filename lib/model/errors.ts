import createError from '@fastify/error'

/**
 * Every error of this package. The code is the name to match on; the text says what was wrong, what is allowed and
 * what to do. Errors with a status code answer an HTTP request (an upgrade that is refused, or a host's own route
 * that did not catch them).
 */

// Options and registration: thrown by `register`, so the process does not start half configured.
export const UnknownOptionError = createError<[string, string]>('FST_CRWS_UNKNOWN_OPTION', 'Unknown option "%s". Known here: %s')
export const InvalidOptionError = createError<[string, string, string]>('FST_CRWS_INVALID_OPTION', 'Invalid option "%s": got %s, allowed is %s')
export const AlreadyRegisteredError = createError('FST_CRWS_ALREADY_REGISTERED', 'The plugin is registered already, here or in another scope of the app. Register it once, before the parts of the app that use it')

// Upgrades that are refused.
export const CapacityError = createError<[number]>('FST_CRWS_CAPACITY', 'This instance holds %d connections, its maximum. Try again: another instance may have room', 503)
export const MemoryError = createError('FST_CRWS_MEMORY', 'This instance is short of memory. Try again: another instance may have room', 503)
export const DrainingError = createError('FST_CRWS_DRAINING', 'This instance is shutting down. Connect again: another instance will answer', 503)
export const OriginError = createError<[string]>('FST_CRWS_ORIGIN', 'Origin %s is not allowed. Add it to the option allowedOrigins', 403)
export const UnauthorizedError = createError<[string]>('FST_CRWS_UNAUTHORIZED', 'Not authenticated: %s', 401)
export const RateLimitError = createError<[number, string]>('FST_CRWS_RATE_LIMIT', 'Too many connections from this address: at most %d. Try again in %s', 429)
export const UpgradeRequiredError = createError<[string]>('FST_CRWS_UPGRADE_REQUIRED', 'This is a WebSocket endpoint: %s', 426)

// Calls of the host.
export const InvalidChannelError = createError<[string, string]>('FST_CRWS_INVALID_CHANNEL', 'Invalid channel %s: %s', 400, TypeError)
export const InvalidDataError = createError<[string]>('FST_CRWS_INVALID_DATA', 'Data can not be sent: %s. Allowed is anything that JSON can carry, or a Buffer', 400, TypeError)
export const InvalidArgumentError = createError<[string, string, string]>('FST_CRWS_INVALID_ARGUMENT', 'Invalid %s: got %s, allowed is %s', 400, TypeError)
export const ConnectionClosedError = createError<[string]>('FST_CRWS_CONNECTION_CLOSED', 'Connection %s is closed', 410)
export const UnrecoverablePositionError = createError<[string]>('FST_CRWS_UNRECOVERABLE_POSITION', 'The epoch of channel %s has changed: positions from before mean nothing now. Read its history again without since', 416)

// Redis.
export const RedisUnavailableError = createError<[string]>('FST_CRWS_REDIS_UNAVAILABLE', 'Redis is away: %s. Nothing was stored; try again', 503)
export const RedisNoAnswerError = createError<[string]>('FST_CRWS_REDIS_NO_ANSWER', 'Redis did not answer: %s. Whether the command took effect is unknown; try again with the same idempotencyKey', 503)
export const RedisRefusedError = createError<[string]>('FST_CRWS_REDIS_REFUSED', 'Redis refused the command: %s', 503)

// What a plain client is told, as {"type":"error"}; the code travels with it.
export const MessageRateError = createError<[number, number]>('FST_CRWS_MESSAGE_RATE', 'Too many messages: at most %d in %d ms. This one was not handled; send more slowly', 429)
