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
  readonly message?: string
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
  readonly channel?: string
  readonly pub?: Publication
  readonly unsubscribe?: { readonly code: number, readonly reason?: string }
}

/** The token has expired: SDKs get a new one. */
export const TOKEN_EXPIRED = 109
/** From this code on an SDK subscribes again after it was unsubscribed. */
export const RESUBSCRIBE = 2500

/** Whether an SDK tries again after this reply. */
export function isTemporary ({ code, temporary }: ReplyError): boolean {
  return temporary === true || code < 100
}

export function wordsOf ({ code, message = '' }: ReplyError): string {
  return `${code} ${message}`.trimEnd()
}

/** Whether a value is what a field may hold. Fields that are left out are undefined. */
type Check = (value: unknown) => boolean

const isBoolean: Check = value => typeof value === 'boolean'
const isNumber: Check = value => typeof value === 'number'
const isString: Check = value => typeof value === 'string'
const optional = (check: Check): Check => value => value === undefined || check(value)
const listOf = (check: Check): Check => value => Array.isArray(value) && value.every(check)

function object (fields: Readonly<Record<string, Check>>): Check {
  const checks = Object.entries(fields)
  return value => typeof value === 'object' && value !== null && !Array.isArray(value) &&
    checks.every(([name, check]) => check((value as Record<string, unknown>)[name]))
}

const isPublication = object({ offset: optional(isNumber), epoch: optional(isString) })

/** Every field above, so that nothing else of this client has to doubt what it reads. */
const isReply = object({
  id: optional(isNumber),
  error: optional(object({ code: isNumber, message: optional(isString), temporary: optional(isBoolean) })),
  connect: optional(object({ ping: optional(isNumber), pong: optional(isBoolean) })),
  subscribe: optional(object({
    recoverable: optional(isBoolean),
    recovered: optional(isBoolean),
    was_recovering: optional(isBoolean),
    offset: optional(isNumber),
    epoch: optional(isString),
    publications: optional(listOf(isPublication))
  })),
  push: optional(object({
    channel: optional(isString),
    pub: optional(isPublication),
    unsubscribe: optional(object({ code: isNumber, reason: optional(isString) }))
  }))
})

/** The replies in a message, one a line; undefined if it is not the protocol. */
export function repliesIn (text: string): Reply[] | undefined {
  try {
    const replies: unknown[] = text.split('\n').filter(line => line !== '').map(line => JSON.parse(line))
    return replies.every(isReply) ? replies as Reply[] : undefined
  } catch {
    return undefined // it is not even JSON
  }
}
