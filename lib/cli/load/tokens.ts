import { SignJWT } from 'jose'
import type { LoadOptions } from './options.ts'

/** Seconds that a token outlives the run. */
const SPARE = 600

/** Returns the token of each client: the given one, or one signed for it; none if neither was asked for. */
export function tokensFor (options: LoadOptions, run: string): (index: number) => Promise<string | undefined> {
  const { token, tokenSecret, tokenClaims, ramp, duration } = options
  if (tokenSecret === undefined) return async () => token
  const key = new TextEncoder().encode(tokenSecret)
  const lifetime = Math.ceil((ramp + duration) / 1_000) + SPARE
  return index => {
    const now = Math.floor(Date.now() / 1_000)
    return new SignJWT({ sub: `load-${run}-${index}`, iat: now, exp: now + lifetime, ...tokenClaims })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .sign(key)
  }
}
