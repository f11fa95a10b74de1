import { hasPassed } from '../../core/client-subscribe.ts'
import { ClientError } from '../../model/client-error.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Identity } from '../../options/identity.ts'
import type { Options } from '../../options/options.ts'
import { DisconnectError } from '../centrifugal/errors.ts'
import type { TokenSubscription } from '../centrifugal/token-subs.ts'
import { channelsOf, identityOf, verifyConnectionToken } from '../centrifugal/tokens.ts'
import type { ConnectionClaims, Tokens } from '../centrifugal/tokens.ts'
import { tokenOf } from './request.ts'

type Authenticate = NonNullable<Options['authenticate']>

/** The claims `subs` of the tokens by which these clients are known: no other protocol's identity has such a field. */
const subs = new WeakMap<Identity, ConnectionClaims['subs']>()

/** What the client's token gives its subscription to this channel; undefined: nothing. */
export function givenByToken (identity: Identity, channel: string): TokenSubscription | undefined {
  return subs.get(identity)?.get(channel)
}

/**
 * Tells who a client is as the SDKs' `connect` does: the token decides; without one, `authenticate`. undefined: the
 * app has neither.
 */
export function identifying (authenticate: Authenticate | undefined, tokens: Tokens | undefined): Authenticate | undefined {
  if (tokens === undefined) return authenticate
  return async request => {
    const identity = await authenticate?.(request)
    const token = tokenOf(request)
    if (token !== undefined) {
      const claims = await verified(tokens, token)
      const known = { ...identityOf(claims, identity?.meta), channels: channelsOf(claims) }
      if (hasPassed(known.expiresAt)) throw new ClientError(401, clientErrors.tokenExpired.message)
      subs.set(known, claims.subs)
      return known
    }
    if (identity === undefined) throw new ClientError(401, 'send a connection token, as ?token= or as a bearer token')
    return identity
  }
}

async function verified (tokens: Tokens, token: string): Promise<ConnectionClaims> {
  try {
    return await verifyConnectionToken(tokens, token, new ReplyError(clientErrors.tokenExpired))
  } catch (error) {
    const refused = error instanceof DisconnectError || (error instanceof ReplyError && error.reply.temporary !== true)
    throw refused ? new ClientError(401, error.message) : Object.assign(new Error('no key could be had', { cause: error }), { statusCode: 503 })
  }
}
