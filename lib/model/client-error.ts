import { inspect } from 'node:util'
import { closeCodes, closeReason } from './close-codes.ts'
import type { End } from './close-codes.ts'
import { clientErrors, ReplyError } from './error-replies.ts'
import type { ErrorReply } from './error-replies.ts'
import { InvalidArgumentError } from './errors.ts'

/**
 * The only error of the app whose message reaches a client: `throw new ClientError(403, 'the room is full')`. The
 * message of any other error may contain what a client must not see. It is never an ERROR in the log. What its code
 * does:
 *
 * | thrown by | 400 to 499 | 500 to 1999 | 3000 to 4999 |
 * |---|---|---|---|
 * | `authenticate` | HTTP status of the refused upgrade | HTTP status 401 | accepts the upgrade and closes at once |
 * | `onConnect`, other handlers, SDK route | error reply | error reply | closes |
 * | `onSubscribe`, `onPublish`, methods, plain route | error reply | error reply | closes |
 * | `onConnect`, `onMessage`, plain route | closes with 1008 | closes with 1008 | closes |
 *
 * "Closes" means with this code, and with the message as the reason. Browsers see close codes, but no HTTP status. SDKs
 * connect again from 3000 to 3499 and from 4000 to 4499, and stay away from 3500 to 3999 and from 4500 to 4999.
 * `onMessage` has no reply on the SDK route: there the first two do nothing.
 */
export class ClientError extends Error {
  readonly code: number

  /**
   * `code`: a whole number from 400 to 1999, or a close code from 3000 to 4999. A close carries up to 123 bytes of the
   * message, and JSON with a full stop. The message may come from a client, so it is never an error.
   * @throws FST_CRWS_INVALID_ARGUMENT
   */
  constructor (code: number, message: string) {
    super(message)
    this.name = 'ClientError'
    this.code = code
    if (!Number.isInteger(code) || code < 400 || (code > 1999 && code < 3000) || code > 4999) {
      throw new InvalidArgumentError('code of a ClientError', inspect(code), 'a whole number from 400 to 1999, or a close code from 3000 to 4999')
    }
  }

  /** Whether the code is a close code. */
  get closes (): boolean { return this.code >= 3000 }

  /** How it ends a connection that has no reply to carry it. */
  get end (): End {
    const reason = closeReason(this.message)
    return this.closes ? { code: this.code, reason, cause: 'server' } : { code: closeCodes.flooding.code, reason, cause: 'policy' }
  }
}

/**
 * The reply that an error means for the client, and the reason for the log; undefined for a fault of the app or of
 * ours.
 */
export function refusalFor (error: unknown): { readonly reply: ErrorReply, readonly detail: string } | undefined {
  if (error instanceof ReplyError) return error
  if (error instanceof ClientError) {
    const message = error.message || 'error'
    return { reply: { code: error.code, message }, detail: message }
  }
  const { code, message } = (error ?? {}) as { code?: unknown, message?: unknown }
  if (code !== 'FST_CRWS_UNRECOVERABLE_POSITION') return undefined
  return { reply: clientErrors.unrecoverablePosition, detail: String(message) }
}

/** The reply that an error means for the client; undefined for a fault of the app or of ours. */
export function replyFor (error: unknown): ErrorReply | undefined {
  return refusalFor(error)?.reply
}
