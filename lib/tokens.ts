import type { JWTPayload } from 'jose'

/** Where the keys are with which tokens are signed. */
export type TokenOptions = { issuer?: string | undefined, audience?: string | undefined } & (
  | { secret: string | readonly string[] }
  | { publicKey: string }
  | { jwksUrl: string }
)

/** Claims of a connection token (centrifugal.dev/docs/server/authentication). */
export interface ConnectionClaims extends JWTPayload {
  info?: unknown
  meta?: unknown
  channels?: string[]
  expire_at?: number
}

/** Claims of a subscription token (centrifugal.dev/docs/server/channel_token_auth). */
export interface SubscriptionClaims extends JWTPayload {
  channel?: string
  client?: string
  info?: unknown
  data?: unknown
  expire_at?: number
}

/** Thrown for a token that was right once; the client gets a new one. */
export class TokenExpiredError extends Error {}
/** Thrown for a token that was never right. */
export class TokenInvalidError extends Error {}

/** Verifies the JWTs that SDK clients bring. */
export interface Tokens {
  /** @throws TokenExpiredError, TokenInvalidError; what the key server answers with is neither, and says nothing about the token. */
  verify<T extends JWTPayload> (token: string): Promise<T>
}

/** `expire_at` sets a connection's or a subscription's end apart from the token's own; 0 stands for never. */
export function expiresAt ({ exp, expire_at: own }: ConnectionClaims | SubscriptionClaims): number | undefined {
  return own === undefined ? exp : own === 0 ? undefined : own
}
