import type { Connection } from '../../core/connection.ts'
import type { Recovery } from '../../hub/recovery.ts'
import { Subscription } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { startOf } from '../../model/channel-rules.ts'
import type { Position } from '../../model/publication.ts'
import type { Observer } from '../../observability/observer.ts'
import type { SubscribeGrant } from '../../options/subscribe-grant.ts'
import type { Context } from './context.ts'
import { DisconnectError, tokenRefused } from './errors.ts'
import { expireSubscription, hasPassed, OVER } from './expiry.ts'
import type { Handler, SendReply } from './handler.ts'
import { payloadOf, subscribeReply } from './replies.ts'
import { anyChannelOf, channelOf, dataOf, positionOf } from './requests.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'
import { afterSnapshot, snapshotGap } from './snapshot.ts'
import { expiresAt, verifySubscriptionToken } from './tokens.ts'

type Request = RequestOf<'subscribe'>

/** Subscriptions of one connection, in every state. */
const MAX_CHANNELS = 128
/** Bit of `flag`: the client prefers an error to a subscription that did not recover. */
const REJECT_UNRECOVERED = 2

/**
 * Handles `subscribe`, after earlier commands for the same channel: reserve a place, authorize, join the channel while
 * publications are buffered, then admit the subscription and reply with what the client missed.
 */
export const subscribe: Handler<'subscribe'> = async (context, session, request, reply) => {
  const channel = checkRequest(request)
  const { connection } = session
  await connection.turns.take(channel, async () => {
    const subscription = reserve(context, session, channel, request)
    try {
      await enter(context, session, subscription, request, reply)
    } catch (error) {
      await context.subscriptions.end(connection, subscription)
      throw error
    }
  })
}

/**
 * Handles `unsubscribe`. It succeeds for any channel but ends only client-side subscriptions: SDKs take an error here
 * for a broken connection.
 */
export const unsubscribe: Handler<'unsubscribe'> = async ({ subscriptions }, session, request, reply) => {
  const channel = anyChannelOf(request)
  const { connection } = session
  await connection.turns.take(channel, async () => {
    const subscription = connection.subscriptions.get(channel)
    if (subscription?.serverSide === false) {
      remember(session, channel)
      await subscriptions.end(connection, subscription)
    }
    reply({})
  })
}

function remember (session: SdkSession, channel: string): void {
  session.left ??= new Set()
  if (session.left.size < MAX_CHANNELS) session.left.add(channel)
}

/** True if the client has left this channel before, or so many that no more are remembered. */
function returns ({ left }: SdkSession, channel: string): boolean {
  return left !== undefined && (left.has(channel) || left.size >= MAX_CHANNELS)
}

/** Clients recover when they reconnect. One that leaves and comes back reads as by `history`, so it costs as much. */
function payRead (session: SdkSession, channel: string): void {
  if (!returns(session, channel) || session.connection.inbox.takeRead()) return
  throw new ReplyError(clientErrors.tooManyRequests, 'the client comes back to channels faster than rateLimit.messages allows')
}

/** Checks the request before the subscribe waits for its turn. Returns the channel. */
function checkRequest (request: Request): string {
  const channel = channelOf(request)
  const { delta = '', tf, type = 0 } = request
  if (delta !== '' && delta !== 'fossil') throw new DisconnectError(sdkOnlyCloseCodes.badRequest, 'delta is neither empty nor fossil')
  if (tf !== undefined) throw new ReplyError(clientErrors.badRequest, 'tags filters are not supported')
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable, 'maps and shared polls are not supported')
  return channel
}

/** True if the subscription reads publications, and not the position alone. */
function reads ({ namespaces }: Context, { channel, since }: Subscription): boolean {
  return since !== undefined || startOf(namespaces.rules(channel)) !== 'missed'
}

function reserve (context: Context, session: SdkSession, channel: string, request: Request): Subscription {
  const { connection } = session
  if (connection.subscriptions.has(channel)) throw new ReplyError(clientErrors.alreadySubscribed) // [Additional notes]
  if (connection.subscriptions.size >= MAX_CHANNELS) throw new ReplyError(clientErrors.limitExceeded, `the connection has ${MAX_CHANNELS} subscriptions, which is the maximum`)
  const { history, joinLeave } = context.namespaces.rules(channel)
  const subscription = new Subscription(connection, channel, false)
  subscription.joinLeave = joinLeave
  subscription.since = request.recover && history !== undefined ? positionOf(request) : undefined
  if (reads(context, subscription)) payRead(session, channel)
  connection.addSubscription(subscription)
  return subscription
}

/** @throws ReplyError (102, 103, 110) */
async function authorize (
  context: Context, connection: Connection, subscription: Subscription, { token = '', data }: Request
): Promise<SubscribeGrant> {
  const byToken = token === '' ? undefined : () => grantByToken(context, connection, subscription, token)
  const details = data === undefined ? {} : { data: dataOf(data) }
  const grant = await context.permissions.subscribe(connection, subscription.channel, details, byToken)
  if (hasPassed(grant.expiresAt)) throw new ReplyError(clientErrors.expired, OVER)
  return grant
}

async function grantByToken (
  { tokens }: Context, connection: Connection, subscription: Subscription, token: string
): Promise<SubscribeGrant> {
  const denied = new ReplyError(clientErrors.permissionDenied)
  if (tokens === undefined) throw tokenRefused(denied, 'the client sent a token, and the option token is not set')
  const claims = await verifySubscriptionToken(tokens, token, subscription.channel, connection, denied)
  const until = expiresAt(claims)
  subscription.refreshable = until !== undefined
  const { info, data } = claims
  return { info, data, ...(until !== undefined && { expiresAt: until }) }
}

/** Joins the channel, admits the subscription, and replies with what the client missed. */
async function enter (
  context: Context, session: SdkSession, subscription: Subscription, request: Request, reply: SendReply
): Promise<void> {
  const { observer, subscriptions } = context
  const { connection } = session
  const { data, info, expiresAt, since } = await authorize(context, connection, subscription, request)
  const payload = payloadOf(data)
  payloadOf(info) // both throw for data that cannot be sent, so they come before the join
  subscription.info = info
  const own = subscription.since
  await join(context, session, subscription, since, rejectsUnrecovered(request))
  if (reads(context, subscription) && returns(session, subscription.channel)) connection.inbox.chargeRead(subscription.recoveryBytes)
  if (hasPassed(expiresAt)) throw new ReplyError(clientErrors.expired, OVER)
  // No `await` from here on: publications reach the client from its admission on, so the reply must leave first.
  const recovery = admit(observer, subscription, own, rejectsUnrecovered(request))
  const expiry = expireSubscription(session, subscription, expiresAt)
  reply({ ...subscribeReply(recovery, own !== undefined), ...expiry, ...(payload !== undefined && { data: payload }) })
  session.pushAll(subscription.channel, recovery.live)
  subscriptions.announceJoin(connection, subscription)
}

function rejectsUnrecovered ({ flag = 0 }: Request): boolean {
  return (flag & REJECT_UNRECOVERED) !== 0
}

/**
 * Joins the channel, to recover from the client's own position. Where it has none, or where too much was published
 * since, `subscription.since` becomes the position of the snapshot: a client that returns must not lose what it missed.
 */
async function join (
  context: Context, session: SdkSession, subscription: Subscription, snapshot: Position | undefined, rejects: boolean
): Promise<void> {
  const { subscriptions } = context
  const { connection } = session
  const own = subscription.since
  if (own === undefined && snapshot !== undefined) {
    if (!reads(context, subscription)) payRead(session, subscription.channel)
    subscription.since = snapshot
  }
  await subscriptions.join(connection, subscription)
  if (own === undefined || snapshot === undefined || rejects || subscription.recovers) return
  await subscriptions.recoverFrom(connection, subscription, snapshot)
}

/** @param own The position that the client has named. If `subscription.since` is another, that is the snapshot's. */
function admit (observer: Observer, subscription: Subscription, own: Position | undefined, rejects: boolean): Recovery {
  const { channel, since } = subscription
  const snapshot = since === own ? undefined : since
  const onlyRecovered = snapshot !== undefined || (own !== undefined && rejects)
  const recovery = subscription.admit(onlyRecovered)
  if (recovery === undefined) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState) // a gap
  if (own !== undefined) observer.recovered(recovery.recovered && snapshot === undefined)
  if (snapshot === undefined) {
    if (onlyRecovered && !recovery.recovered) throw new ReplyError(clientErrors.unrecoverablePosition, "the history no longer has everything after the client's position")
    return recovery
  }
  if (recovery.recovered) return afterSnapshot(recovery)
  observer.callFailed('onSubscribe', snapshotGap(channel, snapshot, recovery))
  // It is temporary: the client asks again, and the app reads a newer snapshot.
  throw new ReplyError(clientErrors.internal, 'the snapshot of onSubscribe would have a gap, see call.failed')
}
