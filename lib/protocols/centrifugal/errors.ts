import { sdkCloseCodes } from '../../model/close-codes.ts'
import type { CloseName, End } from '../../model/close-codes.ts'
import { ReplyError } from '../../model/error-replies.ts'
import { describe } from '../../util/thrown.ts'

/** Thrown by a command that ends the connection. */
export class DisconnectError extends Error {
  readonly #end: End
  /** Why, for the log and for `onDisconnect` alone. */
  detail: string | undefined
  /** True if a token was refused. */
  ofToken = false

  constructor (how: CloseName | End, detail?: string) {
    const end = typeof how === 'string' ? sdkCloseCodes[how] : how
    super(end.reason)
    this.#end = end
    this.detail = detail
  }

  get end (): End {
    return this.detail === undefined ? this.#end : { ...this.#end, detail: this.detail }
  }
}

/** Notes why a token was refused, for the log. Returns the error. */
export function tokenRefused<Refused extends ReplyError | DisconnectError> (error: Refused, detail: string): Refused {
  error.detail = detail
  error.ofToken = true
  return error
}

/** Why a command was refused, for the log. */
export function reasonOf (error: unknown): string {
  return error instanceof ReplyError || error instanceof DisconnectError ? error.detail ?? error.message : describe(error)
}
