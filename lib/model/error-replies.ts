/** An error reply of the Centrifugal protocol. */
export interface ErrorReply {
  readonly code: number
  readonly message: string
  /** True if SDKs try again [Handle errors]. Otherwise they give up a connect or subscribe, except after 109. */
  readonly temporary?: boolean
}

/**
 * Errors of the protocol, codes 100 to 399. An app has 400 to 1999 for its own (centrifugal.dev/docs/server/codes): it
 * throws a `ClientError`.
 */
export const clientErrors = {
  /** When a handler of the app throws, Redis is down, or no key can be had to verify a token. */
  internal: { code: 100, message: 'internal server error', temporary: true },
  /** Reserved: never sent. A client without credentials is closed with 3501. */
  unauthorized: { code: 101, message: 'unauthorized' },
  /** When the namespace of a channel is not in the option `channels`. */
  unknownChannel: { code: 102, message: 'unknown channel' },
  /** When the rules, the app or a token deny a subscribe or publish, or a query needs a subscription first. */
  permissionDenied: { code: 103, message: 'permission denied' },
  /** When the option `methods` has no method of this name, and the app has no `onRpc`. */
  methodNotFound: { code: 104, message: 'method not found' },
  /** When a client subscribes to a channel twice, or to one that the app has subscribed it to. */
  alreadySubscribed: { code: 105, message: 'already subscribed' },
  /** When a connection subscribes to more than 128 channels, or asks for the presence of more than 1,000 members. */
  limitExceeded: { code: 106, message: 'limit exceeded' },
  /**
   * When a channel's name is invalid, or data or a token is missing. When a schema refuses the data, or a tags filter
   * is not taken: then the message is `bad request: ` and the first reason.
   */
  badRequest: { code: 107, message: 'bad request' },
  /** When a feature is off in the namespace, the app has no `onRpc`, or a request is for a map or a shared poll. */
  notAvailable: { code: 108, message: 'not available' },
  /** When a token has expired, or is not valid yet: SDKs get a new one and try again. */
  tokenExpired: { code: 109, message: 'token expired' },
  /** When a connection or subscription would be over before it began. */
  expired: { code: 110, message: 'expired' },
  /** When commands come faster than `rateLimit.messages`, or publishes faster than `publishLimit` of the namespace. */
  tooManyRequests: { code: 111, message: 'too many requests', temporary: true },
  /** When a position is of another epoch, or a subscribe that must recover cannot. */
  unrecoverablePosition: { code: 112, message: 'unrecoverable position' }
} as const satisfies Record<string, ErrorReply>

/** Thrown by a command that is answered with this error. */
export class ReplyError extends Error {
  readonly reply: ErrorReply
  /** Why, for the log alone. */
  detail: string
  /** True if a token was refused. */
  ofToken = false

  constructor (reply: ErrorReply, detail: string = reply.message) {
    super(reply.message)
    this.reply = reply
    this.detail = detail
  }
}
