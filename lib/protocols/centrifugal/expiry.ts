import type { Context } from './context.ts'
import { clientErrors, ReplyError, unsubscribeCodes } from './errors.ts'
import type { Expiry } from './schema.ts'
import type { SdkSession, Subscription } from './session.ts'
import { drop } from './unsubscribe.ts'

/** ms that what the client can refresh outlives its expiry, as in Centrifuge: the refresh may be under way. */
const EXPIRY_GRACE = 25_000

/** Whether this Unix time in seconds has passed; undefined never does. */
export function hasPassed (until: number | undefined): boolean {
  return until !== undefined && until * 1_000 <= Date.now()
}

/**
 * Ends the connection at this Unix time in seconds; undefined: never. Returns what tells the client to refresh in time.
 * @throws ReplyError (110) if the time has passed.
 */
export function expireConnection ({ connection, refreshable }: SdkSession, until: number | undefined): Expiry {
  if (until === undefined) {
    connection.closeAt(Infinity, 'expired')
    return {}
  }
  if (hasPassed(until)) throw new ReplyError(clientErrors.expired)
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

/** Ends the subscriptions that were not refreshed in time. Called at every sweep of the heartbeat. */
export function sweepSubscriptions (context: Context, session: SdkSession, now: number): void {
  if (now < session.nextExpiry) return
  session.nextExpiry = Infinity
  for (const [channel, subscription] of session.subscriptions) {
    const end = endOf(subscription)
    if (now >= end) drop(context, session, channel, unsubscribeCodes.expired)
    else session.nextExpiry = Math.min(session.nextExpiry, end)
  }
}

/** Unix time in ms. */
function endOf ({ expiresAt, refreshable }: Pick<Subscription, 'expiresAt' | 'refreshable'>): number {
  return refreshable ? expiresAt + EXPIRY_GRACE : expiresAt
}

/** `ttl`: whole seconds until the SDK refreshes, at least 1, because Protobuf leaves a zero out. */
function expiryReply (expiresAt: number): Expiry {
  return { expires: true, ttl: Math.max(1, Math.floor((expiresAt - Date.now()) / 1_000)) }
}
