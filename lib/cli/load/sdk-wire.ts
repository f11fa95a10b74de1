/** What a server of the Centrifugal protocol sends in JSON, as far as this client reads it. */
export interface Reply {
  readonly id?: number
  readonly error?: ReplyError
  readonly connect?: { readonly ping?: number, readonly pong?: boolean }
  readonly subscribe?: SubscribeResult
  readonly push?: Push
}

export interface ReplyError {
  readonly code: number
  readonly message: string
  readonly temporary?: boolean
}

export interface SubscribeResult {
  readonly recoverable?: boolean
  readonly recovered?: boolean
  readonly was_recovering?: boolean
  readonly offset?: number
  readonly epoch?: string
  readonly publications?: readonly Publication[]
}

export interface Publication {
  readonly data: unknown
  readonly offset?: number
  /** With the first publication of a history, which is empty before. */
  readonly epoch?: string
}

export interface Push {
  readonly channel: string
  readonly pub?: Publication
  readonly unsubscribe?: { readonly code: number, readonly reason: string }
}

/** The token has expired: SDKs get a new one. */
export const TOKEN_EXPIRED = 109
/** From this code on an SDK subscribes again after it was unsubscribed. */
export const RESUBSCRIBE = 2500

/** Whether an SDK tries again after this reply. */
export function isTemporary ({ code, temporary }: ReplyError): boolean {
  return temporary === true || code < 100
}

export function wordsOf ({ code, message }: ReplyError): string {
  return `${code} ${message}`
}

/** The replies in a message, one a line. @throws SyntaxError if it is not JSON */
export function repliesIn (text: string): Reply[] {
  return text.split('\n').filter(line => line !== '').map(line => JSON.parse(line))
}
