import type { JWTPayload } from 'jose'
import type { Connection } from '../../core/connection.ts'
import type { Overrides } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Identity } from '../../options/identity.ts'
import { DisconnectError, tokenRefused } from './errors.ts'
import type { TokenSubscription } from './token-subs.ts'

/** Claims of a connection token (centrifugal.dev/docs/server/authentication). */
export interface ConnectionClaims extends JWTPayload {
  /** Shown to others in every channel. */
  info?: unknown
  /** For `connection.meta`; never sent to a client. */
  meta?: unknown
  /** Server-side subscriptions. */
  channels?: string[]
  /** Further ones, by channel. As in the token it is an object. */
  subs: ReadonlyMap<string, TokenSubscription>
  /** Unix time in seconds at which the connection expires, in place of `exp`; 0: never. */
  expire_at?: number
}

/** Claims of a subscription token (centrifugal.dev/docs/server/channel_token_auth). */
export interface SubscriptionClaims extends JWTPayload {
  /** The one channel it is for. */
  channel?: string
  /** Id of the one connection it is for. Without it, any connection of the user. */
  client?: string
  /** Shown to others in this channel. */
  info?: unknown
  /** For the subscribe reply. */
  data?: unknown
  /** As in the token its fields have other names. */
  override?: Overrides | undefined
  /** Unix time in seconds at which the subscription expires, in place of `exp`; 0: never. */
  expire_at?: number
}

/** Errors to throw for a token that is refused. */
export interface Refusal {
  /** Thrown if it expired, or is not valid yet: a new one may do. */
  readonly expired: ReplyError | DisconnectError
  /** Thrown if it never was valid. */
  readonly invalid: ReplyError | DisconnectError
}

/** Verifies the JWTs of SDK clients. */
export interface Tokens {
  /**
   * @throws one of `refusal`, which then says why; any other error if no key can be had, which tells nothing about the
   * token.
   */
  verify<Claims extends JWTPayload> (token: string, refusal: Refusal): Promise<Claims>
}

/** Channels of the server-side subscriptions, each once, sorted. */
export function channelsOf ({ channels = [], subs }: ConnectionClaims): string[] {
  return Array.from(new Set([...channels, ...subs.keys()])).toSorted()
}

/** Who a connection token says the client is. `meta`: for a token without that claim. */
export function identityOf (claims: ConnectionClaims, meta: Identity['meta']): Identity {
  return {
    user: claims.sub ?? '',
    info: claims.info as Identity['info'],
    meta: (claims.meta ?? meta) as Identity['meta'],
    expiresAt: expiresAt(claims)
  }
}

/** Unix time in seconds at which the connection or subscription expires; undefined: never. */
export function expiresAt ({ exp, expire_at: own }: ConnectionClaims | SubscriptionClaims): number | undefined {
  return own === undefined ? exp : own === 0 ? undefined : own
}

/** @throws `expired`; DisconnectError (3500) for a token that is not valid, or is a subscription token. */
export async function verifyConnectionToken (tokens: Tokens, token: string, expired: Refusal['expired']): Promise<ConnectionClaims> {
  const invalid = new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  const claims = await tokens.verify<ConnectionClaims>(token, { expired, invalid })
  if (claims.channel !== undefined) throw tokenRefused(invalid, 'it is a subscription token: it has the claim `channel`')
  return claims
}

/**
 * The channel that a subscription token is for.
 * @throws ReplyError (109) if it expired; DisconnectError (3500) if it is not valid, or names no channel.
 */
export async function channelOfToken (tokens: Tokens, token: string): Promise<string> {
  const invalid = new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  const { channel } = await tokens.verify<SubscriptionClaims>(token, { expired: new ReplyError(clientErrors.tokenExpired), invalid })
  if (typeof channel !== 'string') throw tokenRefused(invalid, 'it is not a subscription token: it has no claim `channel`')
  return channel
}

/** @throws ReplyError (109) if it expired; `invalid`; DisconnectError (3500) if it is for someone or something else. */
export async function verifySubscriptionToken (
  tokens: Tokens, token: string, channel: string, connection: Connection, invalid: Refusal['invalid']
): Promise<SubscriptionClaims> {
  const expired = new ReplyError(clientErrors.tokenExpired)
  const claims = await tokens.verify<SubscriptionClaims>(token, { expired, invalid })
  const wrong = claimOfAnother(claims, channel, connection)
  if (wrong !== undefined) throw tokenRefused(new DisconnectError(sdkOnlyCloseCodes.invalidToken), `its claim \`${wrong}\` does not match`)
  return claims
}

/** Returns the claim by which a subscription token is for someone or something else. */
function claimOfAnother (claims: SubscriptionClaims, channel: string, { id, user }: Connection): string | undefined {
  if (claims.channel !== channel) return 'channel'
  if ((claims.sub ?? '') !== user) return 'sub'
  return (claims.client ?? id) === id ? undefined : 'client'
}
