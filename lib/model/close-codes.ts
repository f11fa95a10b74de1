import { inspect } from 'node:util'
import { InvalidArgumentError } from './errors.ts'

/** Bytes of a close reason (RFC 6455, section 5.5: a control frame carries 125 bytes, two of them for the code). */
const MAX_REASON_BYTES = 123

/**
 * Why a connection ended, as in the attribute `websocket.close.cause`: - 'client': the client closed it. - 'server':
 * your app closed it, with `connection.close` or `app.realtime.disconnect`; or an SDK has to start again. - 'deadline':
 * it reached `maxConnectionAge`. - 'drain': the instance shut down. - 'heartbeat': nothing came from the client within
 * `heartbeat.timeout` after a ping. - 'slow': the client read too slowly, so that `maxBufferedBytes` waited for it or
 * memory was short. - 'policy': the client broke a rule: it sent too much or what is not allowed, or its login expired
 * or was refused. - 'error': a handler of your app failed. - 'abnormal': the socket closed without a close frame, as
 * when a phone loses its network.
 */
export type CloseCause = 'client' | 'server' | 'deadline' | 'drain' | 'heartbeat' | 'slow' | 'policy' | 'error' | 'abnormal'

/** How a connection ended. */
export interface End {
  /** Close code that was sent; else the one that the client sent; else 1006. */
  readonly code: number
  /** Text that goes with the code; may be empty if the client closed. */
  readonly reason: string
  /** Why it ended; 'client' if the client closed, 'abnormal' if the socket closed without a close frame. */
  readonly cause: CloseCause
  /** Why in more words, where an SDK client broke the protocol or its token was refused. The client never sees it. */
  readonly detail?: string
}

export interface CloseCode extends End {
  /**
   * Never empty: the JavaScript SDK connects again after any code without a reason. Never JSON, which it reads as an
   * instruction.
   */
  readonly reason: string
  /** Whether a client should connect again. */
  readonly reconnect: boolean
}

/**
 * Close codes of the plain route. 1000 to 1013 are those of RFC 6455 and IANA. 3005, 3008, 3012 and 3503 are those of
 * the Centrifugal protocol, with the same meaning on both routes.
 */
export const closeCodes = {
  /** When the app calls `connection.close()` without a code. */
  normal: { code: 1000, reason: 'closed by the server', cause: 'server', reconnect: false },
  /** When the instance shuts down: at SIGTERM, SIGINT or `app.close()`. */
  drain: { code: 1001, reason: 'shutdown', cause: 'drain', reconnect: true },
  /** When a client sends a message and the app has no `onMessage`. */
  unsupported: { code: 1003, reason: 'this server does not take messages', cause: 'policy', reconnect: false },
  /** When a client keeps sending too fast: more messages were dropped than `rateLimit.messages` allows at once. */
  flooding: { code: 1008, reason: 'too many messages', cause: 'policy', reconnect: false },
  /** When a message is larger than `maxPayload`. `ws` sends the code without a reason; the app is told this one. */
  tooBig: { code: 1009, reason: 'message too big', cause: 'policy', reconnect: false },
  /** When a handler of the app throws. */
  internalError: { code: 1011, reason: 'internal error', cause: 'error', reconnect: true },
  /** When a connection reaches `maxConnectionAge`, shortly before Cloud Run's request timeout would cut it. */
  deadline: { code: 1012, reason: 'connection is old, connect again', cause: 'deadline', reconnect: true },
  /** When the expiry of the identity or the token has passed and no refresh came. */
  expired: { code: 3005, reason: 'connection expired', cause: 'policy', reconnect: true },
  /** When a client reads too slowly: `maxBufferedBytes` are buffered, or, while memory is short, the most of all. */
  slow: { code: 3008, reason: 'slow', cause: 'slow', reconnect: true },
  /** When nothing came from a client within `heartbeat.timeout` after a ping. */
  noPong: { code: 3012, reason: 'no pong', cause: 'heartbeat', reconnect: true },
  /** When the app calls `app.realtime.disconnect` without a code. */
  forceDisconnect: { code: 3503, reason: 'force disconnect', cause: 'server', reconnect: false }
} as const satisfies Record<string, CloseCode>

export type CloseName = keyof typeof closeCodes

/**
 * Whether SDKs connect again after this code: yes below 3500 and from 4000 to 4499, no from 3500 to 3999 and from 4500
 * to 4999 (centrifugal.dev/docs/server/codes).
 */
export function reconnectsAfter (code: number): boolean {
  return !((code >= 3500 && code < 4000) || (code >= 4500 && code < 5000))
}

/** Close codes of the SDK route for the same ends. The code tells every SDK whether to connect again. */
export const sdkCloseCodes = {
  ...closeCodes,
  /** When the app closes with 1000 or without a code: SDKs treat 1000 as an unexpected close and connect again. */
  normal: { code: 3503, reason: 'force disconnect', cause: 'server', reconnect: false },
  /** When the instance shuts down: at SIGTERM, SIGINT or `app.close()`. */
  drain: { code: 3001, reason: 'shutdown', cause: 'drain', reconnect: true },
  /** When a client calls `send` and the app has no `onMessage`. */
  unsupported: { code: 3508, reason: 'not available', cause: 'policy', reconnect: false },
  /** When a client keeps sending after commands were refused with error 111, as in `closeCodes.flooding`. */
  flooding: { code: 3013, reason: 'too many requests', cause: 'policy', reconnect: true },
  /** When `onMessage` throws: `send` has no reply that could carry the error. */
  internalError: { code: 3004, reason: 'internal server error', cause: 'error', reconnect: true },
  /** When a connection reaches `maxConnectionAge`, shortly before Cloud Run's request timeout would cut it. */
  deadline: { code: 3011, reason: 'force reconnect', cause: 'deadline', reconnect: true }
} as const satisfies Record<CloseName, CloseCode>

/** Close codes that only the SDK route sends. */
export const sdkOnlyCloseCodes = {
  /** When the position in a server-side subscription was lost, or a new token names other channels. */
  insufficientState: { code: 3010, reason: 'insufficient state', cause: 'server', reconnect: true },
  /** When a token is invalid, is for another user or channel, or the app takes none. */
  invalidToken: { code: 3500, reason: 'invalid token', cause: 'policy', reconnect: false },
  /** When a client breaks the protocol (bad frame, command before connect), or sends no token where one is required. */
  badRequest: { code: 3501, reason: 'bad request', cause: 'policy', reconnect: false },
  /** When a client has not sent `connect` within ten seconds. */
  stale: { code: 3502, reason: 'stale', cause: 'policy', reconnect: false }
} as const satisfies Record<string, CloseCode>

/** Close codes that `ws` sends to a client that violates the protocol, where it is not 1002. */
const violationCodes: Readonly<Record<string, number>> = { WS_ERR_INVALID_UTF8: 1007, WS_ERR_TOO_MANY_BUFFERED_PARTS: 1008 }

/** Returns how `ws` ends the connection of a client that violates the protocol; undefined for any other error. */
export function endOfViolation ({ code, message }: Error & { code?: string }): End | undefined {
  if (code?.startsWith('Z_')) return { code: 1007, reason: message, cause: 'policy' } // it cannot be decompressed
  if (!code?.startsWith('WS_ERR_')) return undefined
  const { tooBig } = closeCodes // `ws` sends it without a reason; the app gets ours
  if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') return { code: tooBig.code, reason: tooBig.reason, cause: 'policy' }
  return { code: violationCodes[code] ?? 1002, reason: message, cause: 'policy' }
}

/** Returns the code and reason if a server may close with them. @throws FST_CRWS_INVALID_ARGUMENT */
export function checkClose (code: number, reason: string): { code: number, reason: string } {
  const allowed = code === 1000 || (Number.isInteger(code) && code >= 3000 && code <= 4999)
  if (!allowed) throw new InvalidArgumentError('close code', inspect(code), '1000, or 3000 to 4999')
  if (typeof reason !== 'string' || Buffer.byteLength(reason) > MAX_REASON_BYTES) {
    throw new InvalidArgumentError('close reason', inspect(reason), `a string of at most ${MAX_REASON_BYTES} bytes`)
  }
  if (isJson(reason)) throw new InvalidArgumentError('close reason', inspect(reason), 'a string that is not JSON') // SDKs read it as an instruction
  return { code, reason }
}

/** Makes a text a reason that a server may close with: what is too long is cut, and JSON gets a full stop. */
export function closeReason (text: string): string {
  const reason = cut(text, MAX_REASON_BYTES)
  return isJson(reason) ? `${cut(reason, MAX_REASON_BYTES - 1)}.` : reason
}

/** Keeps as many whole characters as fit. */
function cut (text: string, max: number): string {
  const bytes = Buffer.from(text)
  return bytes.length <= max ? text : new TextDecoder().decode(bytes.subarray(0, max), { stream: true })
}

function isJson (text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
