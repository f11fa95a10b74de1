import type { CloseName, End } from '../../model/close-codes.ts'

/** An error reply of the Centrifugal protocol. Clients try again only where it is temporary. */
export interface ErrorReply {
  readonly code: number
  readonly message: string
  readonly temporary?: boolean
}

/** The protocol's own codes, 100 to 399; a host's are 400 to 1999 (centrifugal.dev/docs/server/codes). */
export const clientErrors = {
  internal: { code: 100, message: 'internal server error', temporary: true },
  unauthorized: { code: 101, message: 'unauthorized' },
  unknownChannel: { code: 102, message: 'unknown channel' },
  permissionDenied: { code: 103, message: 'permission denied' },
  methodNotFound: { code: 104, message: 'method not found' },
  alreadySubscribed: { code: 105, message: 'already subscribed' },
  limitExceeded: { code: 106, message: 'limit exceeded' },
  badRequest: { code: 107, message: 'bad request' },
  notAvailable: { code: 108, message: 'not available' },
  tokenExpired: { code: 109, message: 'token expired' },
  expired: { code: 110, message: 'expired' },
  tooManyRequests: { code: 111, message: 'too many requests', temporary: true },
  unrecoverablePosition: { code: 112, message: 'unrecoverable position' }
} as const satisfies Record<string, ErrorReply>

/** Why a subscription ended: below 2500 for good, from there on the client subscribes again. */
export const unsubscribeCodes = {
  server: { code: 2000, reason: 'server unsubscribe' },
  insufficientState: { code: 2500, reason: 'insufficient state' },
  expired: { code: 2501, reason: 'subscription expired' }
} as const

/** A command ends with this error as its reply. */
export class ReplyError extends Error {
  readonly reply: ErrorReply

  constructor (reply: ErrorReply) {
    super(reply.message)
    this.reply = reply
  }
}

/** A command ends the connection. */
export class DisconnectError extends Error {
  readonly end: CloseName | End

  constructor (end: CloseName | End) {
    super(typeof end === 'string' ? end : end.reason)
    this.end = end
  }
}
