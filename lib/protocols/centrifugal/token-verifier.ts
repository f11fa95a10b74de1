import { createPublicKey, createSecretKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { createRemoteJWKSet, errors, jwtVerify } from 'jose'
import type { JWTPayload, JWTVerifyGetKey, JWTVerifyOptions } from 'jose'
import { clientErrors, ReplyError } from './errors.ts'
import { algorithmsOf, keyAlgorithms, TokenExpiredError, TokenInvalidError } from '../../options/token-options.ts'
import type { TokenOptions, Tokens } from '../../options/token-options.ts'

/** Thrown when no key can be had; the token may be right. */
class KeysAwayError extends Error {}

/** ms between two fetches of keys because of a token that names one that we do not have. */
const FETCH_INTERVAL = 5_000
/** ms that the key server gets to answer: SDKs give up after 5 s. */
const FETCH_TIMEOUT = 3_000

const HMAC = ['HS256', 'HS384', 'HS512']
const ASYMMETRIC = Object.values(keyAlgorithms).flat()

type Verify = (token: string) => Promise<JWTPayload>

/** In a file of its own: only who takes tokens waits for the library to be imported. */
export class TokenVerifier implements Tokens {
  readonly #verify: Verify

  constructor (options: TokenOptions) {
    this.#verify = verifier(options)
  }

  async verify<T extends JWTPayload> (token: string): Promise<T> {
    try {
      return checkClaims(await this.#verify(token)) as T
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw new TokenExpiredError(error.message)
      if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf') throw new TokenExpiredError(error.message)
      if (error instanceof errors.JOSEError || error instanceof TypeError) throw new TokenInvalidError(error.message)
      throw error
    }
  }
}

function verifier (options: TokenOptions): Verify {
  const { issuer, audience } = options
  const claims: JWTVerifyOptions = { ...(issuer !== undefined && { issuer }), ...(audience !== undefined && { audience }) }
  if ('jwksUrl' in options) {
    const keys = remoteKeys(new URL(options.jwksUrl))
    return async token => (await jwtVerify(token, keys, { ...claims, algorithms: ASYMMETRIC })).payload
  }
  if ('publicKey' in options) {
    const key = createPublicKey(options.publicKey)
    return async token => (await jwtVerify(token, key, { ...claims, algorithms: algorithmsOf(key) })).payload
  }
  const secrets = [options.secret].flat().map(secret => createSecretKey(Buffer.from(secret)))
  return token => verifyWithAny(token, secrets, { ...claims, algorithms: HMAC })
}

/** Fetches the keys again when a token names one that it does not have: rotation needs no restart. */
function remoteKeys (url: URL): JWTVerifyGetKey {
  const keys = createRemoteJWKSet(url, { cooldownDuration: FETCH_INTERVAL, timeoutDuration: FETCH_TIMEOUT })
  return async (header, token) => {
    const { coolingDown } = keys
    try {
      return await keys(header, token)
    } catch (error) {
      const unknown = error instanceof errors.JWKSNoMatchingKey
      // The key may be newer than what we have: the client is not sent away for good, it asks again.
      if (unknown && coolingDown) throw new ReplyError(clientErrors.internal)
      if (unknown || error instanceof errors.JWKSMultipleMatchingKeys) throw error
      throw new KeysAwayError(`no key from ${url.href}: ${(error as Error).message}`, { cause: error })
    }
  }
}

/** While a secret is changed, tokens signed with the one before are still about. */
async function verifyWithAny (token: string, [secret, ...others]: KeyObject[], options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, secret!, options)).payload
  } catch (error) {
    if (!(error instanceof errors.JWSSignatureVerificationFailed) || others.length === 0) throw error
    return verifyWithAny(token, others, options)
  }
}

/** Claims of the right types; what came in base64 stands for the plain claim. @throws TokenInvalidError */
function checkClaims (claims: JWTPayload): JWTPayload {
  const { sub = '', channels = [], client = '', b64info, b64data, expire_at: at = 0 } = claims
  const right = typeof sub === 'string' && typeof client === 'string' && typeof at === 'number' && Array.isArray(channels) && channels.every(channel => typeof channel === 'string')
  if (!right) throw new TokenInvalidError('a claim is not of its type')
  return { ...claims, ...(b64info !== undefined && { info: decodeBase64(b64info) }), ...(b64data !== undefined && { data: decodeBase64(b64data) }) }
}

function decodeBase64 (text: unknown): unknown {
  try {
    return JSON.parse(Buffer.from(text as string, 'base64').toString())
  } catch {
    throw new TokenInvalidError('a claim is not JSON in base64')
  }
}
