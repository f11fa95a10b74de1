import { createPublicKey, createSecretKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { errors, jwtVerify } from 'jose'
import type { JWTPayload, JWTVerifyOptions } from 'jose'
import type { Observer } from '../../observability/observer.ts'
import { algorithmsOf, keyAlgorithms } from '../../options/token-options.ts'
import type { TokenOptions } from '../../options/token-options.ts'
import { tokenRefused } from './errors.ts'
import { RemoteKeySet } from './key-set.ts'
import { checkOverride, checkSubs, decodeBase64 } from './token-subs.ts'
import type { Refusal, Tokens } from './tokens.ts'

const HMAC = ['HS256', 'HS384', 'HS512']
const ASYMMETRIC = Object.values(keyAlgorithms).flat()

type Verify = (token: string) => Promise<JWTPayload>

/** Verifies tokens with jose. Imported lazily: only apps with the option `token` load the library. */
export class TokenVerifier implements Tokens {
  readonly #verify: Verify

  constructor (options: TokenOptions, observer: Observer) {
    this.#verify = verifier(options, observer)
  }

  async verify<Claims extends JWTPayload> (token: string, { expired, invalid }: Refusal): Promise<Claims> {
    try {
      return checkClaims(await this.#verify(token)) as Claims
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw tokenRefused(expired, 'it has expired')
      if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf') throw tokenRefused(expired, 'it is not valid yet')
      // A TypeError comes from `checkClaims`, or from jose for a key that does not go with the token's algorithm.
      if (error instanceof errors.JOSEError || error instanceof TypeError) throw tokenRefused(invalid, error.message)
      throw error
    }
  }
}

function verifier (options: TokenOptions, observer: Observer): Verify {
  const { issuer, audience } = options
  const claims: JWTVerifyOptions = { ...(issuer !== undefined && { issuer }), ...(audience !== undefined && { audience }) }
  if ('jwksUrl' in options) {
    const { keyFor } = new RemoteKeySet(new URL(options.jwksUrl), observer)
    return async token => (await jwtVerify(token, keyFor, { ...claims, algorithms: ASYMMETRIC })).payload
  }
  if ('publicKey' in options) {
    const key = createPublicKey(options.publicKey)
    return async token => (await jwtVerify(token, key, { ...claims, algorithms: algorithmsOf(key) })).payload
  }
  const secrets = [options.secret].flat().map(secret => createSecretKey(Buffer.from(secret)))
  return token => verifyWithAny(token, secrets, { ...claims, algorithms: HMAC })
}

/** Tries each secret: while one is replaced, tokens signed with the previous one are still in use. */
async function verifyWithAny (token: string, [secret, ...others]: KeyObject[], options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, secret!, options)).payload
  } catch (error) {
    if (!(error instanceof errors.JWSSignatureVerificationFailed) || others.length === 0) throw error
    return verifyWithAny(token, others, options)
  }
}

/** Checks the types of the claims. Decodes `b64info` and `b64data`, `subs` and `override`. @throws TypeError */
function checkClaims (claims: JWTPayload): JWTPayload {
  const { sub = '', channels = [], client = '', b64info, b64data, expire_at: at = 0, subs = {}, override } = claims
  checkType('sub', sub, 'string')
  checkType('client', client, 'string')
  checkType('expire_at', at, 'number')
  if (!(sub as string).isWellFormed()) throw new TypeError('`sub` must be well-formed Unicode')
  if (!isStrings(channels)) throw new TypeError('`channels` must be a list of strings')
  return {
    ...claims,
    subs: checkSubs(subs),
    override: checkOverride(override),
    ...(b64info !== undefined && { info: decodeBase64('b64info', b64info) }),
    ...(b64data !== undefined && { data: decodeBase64('b64data', b64data) })
  }
}

/** RFC 7519 says that `sub` is a string: a number, such as the id of a row, would be another user in other places. */
function checkType (claim: string, value: unknown, type: 'string' | 'number'): void {
  const got: string = typeof value
  if (got !== type) throw new TypeError(`\`${claim}\` must be a ${type}, got ${got === 'object' ? 'an object or null' : `a ${got}`}`)
}

function isStrings (value: unknown): value is string[] {
  return Array.isArray(value) && value.every(one => typeof one === 'string')
}
