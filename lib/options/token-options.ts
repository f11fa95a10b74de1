import type { JWTPayload } from 'jose'
import type { KeyObject } from 'node:crypto'

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

/** By the kind of key, so that nobody can choose an algorithm for which the public key would be a secret. */
export const keyAlgorithms: Readonly<Record<string, string[]>> = {
  rsa: ['RS256', 'RS384', 'RS512'],
  ec: ['ES256', 'ES384', 'ES512'],
  ed25519: ['EdDSA', 'Ed25519'] // RFC 9864 gives the second name
}

/** Those that a key of this kind can verify; none for a kind that is not for tokens. */
export function algorithmsOf (key: KeyObject): string[] {
  return keyAlgorithms[key.asymmetricKeyType ?? ''] ?? []
}

/** Verifies the JWTs that SDK clients bring. */
export interface Tokens {
  /** @throws TokenExpiredError, TokenInvalidError; what the key server answers with is neither, and says nothing about the token. */
  verify<T extends JWTPayload> (token: string): Promise<T>
}

/** `expire_at` sets a connection's or a subscription's end apart from the token's own; 0 stands for never. */
export function expiresAt ({ exp, expire_at: own }: ConnectionClaims | SubscriptionClaims): number | undefined {
  return own === undefined ? exp : own === 0 ? undefined : own
}
