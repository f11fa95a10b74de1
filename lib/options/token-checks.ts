import { createPublicKey } from 'node:crypto'
import { fields, invalid, string } from './checks.ts'
import type { Check } from './checks.ts'
import { invalidOption } from './problems.ts'
import { algorithmsOf } from './token-options.ts'
import type { TokenOptions } from './token-options.ts'

/** Bytes of an HMAC secret. A shorter one can be found by trying, with any token at hand. */
const MIN_SECRET_BYTES = 32

const someString = string(/./, 'a non-empty string')
const hmacSecret: Check<string> = (value, name) => {
  const valid = typeof value === 'string' && Buffer.byteLength(value) >= MIN_SECRET_BYTES && !value.includes('-----BEGIN')
  if (valid) return value
  throw invalid(name, value, `a string of at least ${MIN_SECRET_BYTES} bytes (RFC 7518, section 3.2) that nobody can guess, ` +
    'as from "openssl rand -hex 32", or a list of them. A public key in PEM format goes into token.publicKey')
}
const secret: Check<string | readonly string[]> = (value, name) => {
  if (Array.isArray(value) && value.length > 0) return value.map(one => hmacSecret(one, name))
  return hmacSecret(value, name)
}
const publicKey: Check<string> = (value, name) => {
  try {
    if (algorithmsOf(createPublicKey(value as string)).length > 0) return value as string
  } catch {} // not a key at all: the same error
  throw invalid(name, value, 'a public key in PEM format: RSA, EC or Ed25519')
}

const keySources = { secret, publicKey, jwksUrl: string(/^https?:\/\/./, 'a URL') }
const tokenFields: Check<object> = fields<Record<string, Check<unknown>>>({ ...keySources, issuer: someString, audience: someString }, {})
/** Checks the option `token`. */
export const token: Check<TokenOptions | undefined> = (value, name) => {
  const checked = tokenFields(value, name)
  const sources = Object.keys(keySources).filter(key => Object.hasOwn(checked, key))
  if (sources.length === 1) return checked as TokenOptions
  const allowed = `exactly one of ${Object.keys(keySources).join(', ')}`
  const unset = sources.length === 0 && Object.keys(value as object).find(key => Object.hasOwn(keySources, key))
  throw unset ? invalid(`${name}.${unset}`, undefined, allowed) : invalidOption(name, sources.join(' and ') || 'no source of keys', allowed)
}
