import { ClientError, replyFor } from '../../model/client-error.ts'
import { closeCodes, closeReason } from '../../model/close-codes.ts'
import type { End } from '../../model/close-codes.ts'
import { clientErrors } from '../../model/error-replies.ts'
import { ChannelRefusedError, ConnectionRefusedError } from '../../model/errors.ts'
import { mayReturn } from './encoder.ts'

/** An error that is sent in place of a stream. */
export type HttpRefusal = Error & { readonly statusCode?: number }

/** HTTP statuses of the protocol's errors; 403 for those that are not here. */
const statuses: Readonly<Record<number, number>> = {
  [clientErrors.internal.code]: 503,
  [clientErrors.unknownChannel.code]: 404,
  [clientErrors.limitExceeded.code]: 400,
  [clientErrors.badRequest.code]: 400,
  [clientErrors.tooManyRequests.code]: 429
}

/** How a client is refused that cannot have one of its channels. */
export interface ChannelRefusal {
  readonly error: HttpRefusal
  /** How its connection ends. */
  readonly end: End
  /** Code of the protocol, or of the app's `ClientError`. */
  readonly code: number
}

/** What a client is told whose subscribe has failed with this error. What is a fault of the app, or ours, is 503. */
export function channelRefusal (channel: string, error: unknown): ChannelRefusal {
  const { code, message } = replyFor(error) ?? clientErrors.internal
  const statusCode = statusOf(code)
  const advice = isTemporary(statusCode) ? 'Try again' : 'Leave it out, or connect as a user who may subscribe to it'
  const refused = Object.assign(new ChannelRefusedError(channel, message, code, advice), { statusCode })
  if (error instanceof ClientError && error.closes) return { error: refused, end: error.end, code }
  const { code: closeCode, cause } = statusCode === 503 ? closeCodes.internalError : closeCodes.flooding
  return { error: refused, end: { code: closeCode, reason: closeReason(`${channel}: ${message}`), cause }, code }
}

/** What a client is told whose connection the app has refused. */
export function connectionRefusal ({ code, message }: ClientError): HttpRefusal {
  return Object.assign(new ConnectionRefusedError(message, code), { statusCode: statusOf(code) })
}

/** What a client is told whose connection has ended before its stream began. */
export function refusalOfEnd ({ code, reason }: Pick<End, 'code' | 'reason'>): HttpRefusal {
  return Object.assign(new ConnectionRefusedError(reason, code), { statusCode: statusOfEnd(code) })
}

/** Whether what is refused with this HTTP status may be granted a moment later. A bug may be mended by then. */
export function isTemporary (statusCode: number): boolean {
  return statusCode === 429 || statusCode >= 500
}

/** The HTTP status for a code of the protocol, or of a `ClientError`. */
function statusOf (code: number): number {
  if (code >= 3000) return statusOfEnd(code)
  return code >= 400 && code < 500 ? code : statuses[code] ?? 403
}

/** The HTTP status for a close code. */
function statusOfEnd (code: number): number {
  return mayReturn({ code }) ? 503 : 403
}
