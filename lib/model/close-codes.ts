import { InvalidArgumentError } from './errors.ts'

/** Bytes of a close reason (RFC 6455, section 5.5: a control frame carries 125, two of them the code). */
const MAX_REASON_BYTES = 123

/** Why a connection ended, as in the attribute `websocket.close.cause`. */
export type CloseCause = 'client' | 'server' | 'deadline' | 'drain' | 'heartbeat' | 'slow' | 'policy' | 'error' | 'abnormal'

/** How a connection ended: what we sent, else what the client sent, else 1006. */
export interface End {
  readonly code: number
  readonly reason: string
  readonly cause: CloseCause
}

export interface CloseCode extends End {
  /** Never empty and never JSON: the JavaScript SDK takes a terminal code without a reason, or with one that parses as JSON, for something else. */
  readonly reason: string
  /** Whether a client should connect again. */
  readonly reconnect: boolean
}

/**
 * The close codes this package sends on the plain route. 1000 to 1013 are RFC 6455's and IANA's;
 * 3005, 3008, 3012 and 3503 are those of the Centrifugal protocol, which say the same on both routes.
 */
export const closeCodes = {
  normal: { code: 1000, reason: 'closed by the server', cause: 'server', reconnect: false },
  drain: { code: 1001, reason: 'shutdown', cause: 'drain', reconnect: true },
  unsupported: { code: 1003, reason: 'this server does not take messages', cause: 'policy', reconnect: false },
  flooding: { code: 1008, reason: 'too many messages', cause: 'policy', reconnect: false },
  tooBig: { code: 1009, reason: 'message too big', cause: 'policy', reconnect: false },
  internalError: { code: 1011, reason: 'internal error', cause: 'error', reconnect: true },
  deadline: { code: 1012, reason: 'connection is old, connect again', cause: 'deadline', reconnect: true },
  expired: { code: 3005, reason: 'connection expired', cause: 'policy', reconnect: true },
  slow: { code: 3008, reason: 'slow', cause: 'slow', reconnect: true },
  noPong: { code: 3012, reason: 'no pong', cause: 'heartbeat', reconnect: true },
  forceDisconnect: { code: 3503, reason: 'force disconnect', cause: 'server', reconnect: false }
} as const satisfies Record<string, CloseCode>

export type CloseName = keyof typeof closeCodes

/**
 * The same ends on the SDK route, where the code tells every SDK whether to come back: below 3500 and from 4000 to 4499 yes,
 * from 3500 to 3999 and from 4500 to 4999 no (centrifugal.dev/docs/server/codes).
 */
export const sdkCloseCodes = {
  ...closeCodes,
  normal: { code: 3503, reason: 'force disconnect', cause: 'server', reconnect: false },
  drain: { code: 3001, reason: 'shutdown', cause: 'drain', reconnect: true },
  unsupported: { code: 3508, reason: 'not available', cause: 'policy', reconnect: false },
  flooding: { code: 3013, reason: 'too many requests', cause: 'policy', reconnect: true },
  internalError: { code: 3004, reason: 'internal server error', cause: 'error', reconnect: true },
  deadline: { code: 3011, reason: 'force reconnect', cause: 'deadline', reconnect: true }
} as const satisfies Record<CloseName, CloseCode>

/** What only the SDK route sends. */
export const sdkOnlyCloseCodes = {
  insufficientState: { code: 3010, reason: 'insufficient state', cause: 'server', reconnect: true },
  invalidToken: { code: 3500, reason: 'invalid token', cause: 'policy', reconnect: false },
  badRequest: { code: 3501, reason: 'bad request', cause: 'policy', reconnect: false },
  stale: { code: 3502, reason: 'stale', cause: 'policy', reconnect: false }
} as const satisfies Record<string, CloseCode>

/** Whether a server may close with them. @throws FST_CRWS_INVALID_ARGUMENT */
export function checkClose (code: number, reason: string): { code: number, reason: string } {
  if (code !== 1000 && !(Number.isInteger(code) && code >= 3000 && code <= 4999)) throw new InvalidArgumentError('close code', String(code), '1000, or 3000 to 4999')
  if (typeof reason !== 'string' || Buffer.byteLength(reason) > MAX_REASON_BYTES) throw new InvalidArgumentError('close reason', String(reason), `a text of at most ${MAX_REASON_BYTES} bytes`)
  // SDKs read it as an instruction.
  if (isJson(reason)) throw new InvalidArgumentError('close reason', reason, 'a text that is no JSON')
  return { code, reason }
}

function isJson (text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
