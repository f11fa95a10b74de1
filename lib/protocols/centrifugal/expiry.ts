import { hasPassed, OVER } from '../../core/client-subscribe.ts'
import type { Subscription } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { unsubscribeCodes } from '../../model/unsubscribe-codes.ts'
import { DisconnectError, tokenRefused } from './errors.ts'
import type { Handler } from './handler.ts'
import { channelOf } from './requests.ts'
import type { Expiry, RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'
import { channelOfToken, channelsOf, expiresAt, verifyConnectionToken, verifySubscriptionToken } from './tokens.ts'
import type { Tokens } from './tokens.ts'

/** Milliseconds after the expiry in which a refresh that is under way still counts, as in Centrifuge. */
const EXPIRY_GRACE = 25_000

/**
 * Ends the connection at this Unix time in seconds; undefined: never. Returns what tells the client to refresh in time.
 * @throws ReplyError (110) if the time has passed.
 */
export function expireConnection ({ connection, refreshable }: SdkSession, until: number | undefined): Expiry {
  if (until === undefined) {
    connection.closeAt(Infinity, 'expired')
    return {}
  }
  if (hasPassed(until)) throw new ReplyError(clientErrors.expired, OVER)
  const expiresAt = until * 1_000
  connection.closeAt(endOf({ expiresAt, refreshable }), 'expired')
  return refreshable ? expiryReply(expiresAt) : {}
}

/** Does the same for a subscription; the caller has checked that the time has not passed. */
export function expireSubscription (session: SdkSession, subscription: Subscription, until: number | undefined): Expiry {
  subscription.expiresAt = until === undefined ? Infinity : until * 1_000
  session.nextExpiry = Math.min(session.nextExpiry, endOf(subscription))
  return until !== undefined && subscription.refreshable ? expiryReply(subscription.expiresAt) : {}
}

/** Ends the subscriptions that were not refreshed in time. */
export function endExpired (session: SdkSession, now: number): void {
  session.nextExpiry = Infinity
  for (const subscription of session.connection.subscriptions.values()) {
    const end = endOf(subscription)
    if (now >= end) session.drop(subscription, unsubscribeCodes.expired)
    else session.nextExpiry = Math.min(session.nextExpiry, end)
  }
}

/** Handles `refresh`: a new token for a connection that was opened with one. */
export const refresh: Handler<'refresh'> = async ({ tokens }, session, { token = '' }, reply) => {
  if (token === '' || !session.refreshable || tokens === undefined) {
    throw tokenRefused(new DisconnectError(sdkOnlyCloseCodes.badRequest), 'a refresh needs a token, and a connection that was opened with one')
  }
  const claims = await verifyConnectionToken(tokens, token, new DisconnectError('expired'))
  if ((claims.sub ?? '') !== session.connection.user) {
    throw tokenRefused(new DisconnectError(sdkOnlyCloseCodes.invalidToken), 'the new token is for another user')
  }
  // Other channels than before: the client must connect again to be subscribed to them.
  const sameChannels = JSON.stringify(channelsOf(claims)) === JSON.stringify(session.tokenChannels)
  if (!sameChannels) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
  reply(expireConnection(session, expiresAt(claims)))
}

/** Handles `sub_refresh`: a new token for a subscription that was made with one. */
export const subRefresh: Handler<'sub_refresh'> = async ({ tokens }, session, request, reply) => {
  const channel = await refreshedChannel(tokens, request)
  const { token = '', type = 0 } = request
  const { connection } = session
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable, 'shared polls are not supported')
  await connection.turns.settled(channel) // its subscribe may be in the same frame
  const subscription = connection.subscriptions.get(channel)
  if (subscription?.state !== 'live') throw new ReplyError(clientErrors.permissionDenied, 'the client is not subscribed to the channel')
  if (token === '') throw tokenRefused(new ReplyError(clientErrors.badRequest), 'the client sent no token')
  if (!subscription.refreshable || tokens === undefined) {
    throw tokenRefused(new DisconnectError(sdkOnlyCloseCodes.badRequest), 'the subscription was made without a token that expires')
  }
  const invalid = new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  const until = expiresAt(await verifySubscriptionToken(tokens, token, channel, connection, invalid))
  if (hasPassed(until)) throw new ReplyError(clientErrors.expired, OVER)
  reply(expireSubscription(session, subscription, until))
}

/** The channel of the request; else that of its token: centrifuge-python 0.5.0 sends no channel. */
async function refreshedChannel (tokens: Tokens | undefined, request: RequestOf<'sub_refresh'>): Promise<string> {
  const { channel = '', token = '' } = request
  if (channel !== '' || token === '' || tokens === undefined) return channelOf(request)
  return channelOf({ channel: await channelOfToken(tokens, token) })
}

/** Returns the Unix time in milliseconds at which the server ends what expires. */
function endOf ({ expiresAt, refreshable }: Pick<Subscription, 'expiresAt' | 'refreshable'>): number {
  return refreshable ? expiresAt + EXPIRY_GRACE : expiresAt
}

/** `ttl`: whole seconds until the SDK refreshes, at least 1, because Protobuf leaves a zero out. */
function expiryReply (expiresAt: number): Expiry {
  return { expires: true, ttl: Math.max(1, Math.floor((expiresAt - Date.now()) / 1_000)) }
}
