import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Answer } from './answer.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import { expireConnection, expireSubscription, hasPassed } from './expiry.ts'
import { channelOf } from './requests.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'
import { expiresAt, verifyConnectionToken, verifySubscriptionToken } from './tokens.ts'

/** Handles `refresh`: a new token for a connection that was opened with one. */
export async function refresh ({ tokens }: Context, session: SdkSession, { token = '' }: RequestOf<'refresh'>): Promise<Answer> {
  if (token === '' || !session.refreshable || tokens === undefined) throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  const claims = await verifyConnectionToken(tokens, token, new DisconnectError('expired'))
  if ((claims.sub ?? '') !== session.connection.user) throw new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  // Other channels than before: the client must connect again to be subscribed to them.
  const channels = claims.channels?.toSorted() ?? []
  if (String(channels) !== String(session.tokenChannels)) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
  return { result: expireConnection(session, expiresAt(claims)) }
}

/** Handles `sub_refresh`: a new token for a subscription that was made with one. */
export async function subRefresh ({ tokens }: Context, session: SdkSession, request: RequestOf<'sub_refresh'>): Promise<Answer> {
  const channel = channelOf(request)
  const { token = '', type = 0 } = request
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable) // of a shared poll
  await session.connection.settled(channel) // its subscribe may be in the same frame
  const subscription = session.subscriptions.get(channel)
  if (subscription === undefined) throw new ReplyError(clientErrors.permissionDenied)
  if (token === '') throw new ReplyError(clientErrors.badRequest)
  if (!subscription.refreshable || tokens === undefined) throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  const invalid = new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  const until = expiresAt(await verifySubscriptionToken(tokens, token, channel, session.connection, invalid))
  if (hasPassed(until)) throw new ReplyError(clientErrors.expired)
  return { result: expireSubscription(session, subscription, until) }
}
