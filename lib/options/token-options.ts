import type { KeyObject } from 'node:crypto'

/** How the JWTs of SDK clients are verified: which key signs them, and which claims they must carry. */
export type TokenOptions = {
  /** Value that the claim `iss` must have. @default undefined, any issuer */
  issuer?: string | undefined
  /** Value that the claim `aud` must have or contain. @default undefined, any audience */
  audience?: string | undefined
} & (
  | {
    /**
     * HMAC secret (HS256, HS384, HS512) of at least 32 bytes. While you rotate it, a list: a token signed with any of
     * them is valid.
     */
    secret: string | readonly string[]
  }
  | {
    /** Public key in PEM: RSA (RS256, RS384, RS512), EC (ES256, ES384, ES512) or Ed25519 (EdDSA). */
    publicKey: string
  }
  | {
    /**
     * URL of a JSON Web Key Set of at most 1 MB. It is fetched again when a token names an unknown key, at most every
     * 5 s. Redirects are not followed.
     */
    jwksUrl: string
  }
)

/** Algorithms by kind of key: a token must not choose one for which the public key would be the secret. */
export const keyAlgorithms: Readonly<Record<string, string[]>> = {
  rsa: ['RS256', 'RS384', 'RS512'],
  ec: ['ES256', 'ES384', 'ES512'],
  ed25519: ['EdDSA', 'Ed25519'] // RFC 9864 adds the second name
}

/** Algorithms that this key can verify; none if its kind does not sign tokens. */
export function algorithmsOf (key: KeyObject): string[] {
  return keyAlgorithms[key.asymmetricKeyType ?? ''] ?? []
}
