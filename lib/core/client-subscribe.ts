import type { Recovery } from '../hub/recovery.ts'
import { Subscription } from '../hub/subscription.ts'
import { startOf } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import { clientErrors, ReplyError } from '../model/error-replies.ts'
import { encodePayload } from '../model/publication.ts'
import type { Payload, Position } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import type { SubscribeGrant } from '../options/subscribe-grant.ts'
import type { Connection } from './connection.ts'
import type { Permissions } from './permissions.ts'
import { afterSnapshot, snapshotGap } from './snapshot.ts'
import type { Subscriptions } from './subscriptions.ts'

/** Subscriptions of one connection, in every state. */
const MAX_CHANNELS = 128
/** Why what has an end is refused. */
export const OVER = 'expiresAt, or the expiry of the token, has passed'

/** The parts of this instance that a subscribe of a client acts on. */
export interface ClientSubscribes {
  readonly namespaces: ChannelNamespaces
  readonly permissions: Permissions
  readonly subscriptions: Subscriptions
  readonly observer: Observer
}

/** The session of a client that subscribes by itself. */
export interface SubscribingSession {
  readonly connection: Connection
  /** Channels that the client has left: it pays for what it recovers there. Made when it first leaves one. */
  left: Set<string> | undefined
}

/** What a client asks for. */
export interface ClientSubscribe {
  readonly channel: string
  /** Position from which the client recovers; undefined: it names none. */
  readonly since: Position | undefined
  /** True if the client prefers an error to a subscription that did not recover. */
  readonly rejectsUnrecovered: boolean
  /** What it sent for `onSubscribe`. */
  readonly details: { data?: unknown }
  /** Verifies its token; undefined: it has none. */
  readonly byToken: ((subscription: Subscription) => Promise<SubscribeGrant>) | undefined
  /** Sets how publications are encoded for the subscription, and which ones are for it. */
  readonly prepare?: (subscription: Subscription) => void
}

/** A client in its channel. What it is sent must follow at once: it already gets publications. */
export interface Admitted {
  readonly subscription: Subscription
  /** undefined: there is a gap, and the client has to start again. */
  readonly recovery: Recovery | undefined
  /** Whether it has named a position in a channel with history. */
  readonly recovering: boolean
  /** Data of the grant; undefined: it has none. */
  readonly data: Payload | undefined
  /** Unix time in seconds; undefined: never. */
  readonly expiresAt: number | undefined
}

/**
 * Subscribes a client on its own behalf, after earlier commands for the same channel: reserve a place, authorize, join
 * the channel while publications are buffered, then admit the subscription. `admitted` sends the reply, synchronously.
 * @throws ReplyError (100, 102, 103, 105, 106, 110, 111, 112), and what the app's code throws
 */
export function subscribeClient (
  parts: ClientSubscribes, session: SubscribingSession, request: ClientSubscribe, admitted: (admitted: Admitted) => void
): Promise<void> {
  const { connection } = session
  return connection.turns.take(request.channel, async () => {
    const subscription = reserve(parts, session, request)
    try {
      await enter(parts, session, subscription, request, admitted)
    } catch (error) {
      await parts.subscriptions.end(connection, subscription)
      throw error
    }
    parts.subscriptions.announceJoin(connection, subscription)
  })
}

/** Unsubscribes a client on its own behalf. It succeeds for any channel, but ends only what the client has begun. */
export function unsubscribeClient ({ subscriptions }: ClientSubscribes, session: SubscribingSession, channel: string): Promise<void> {
  const { connection } = session
  return connection.turns.take(channel, async () => {
    const subscription = connection.subscriptions.get(channel)
    if (subscription?.serverSide !== false) return
    session.left ??= new Set()
    if (session.left.size < MAX_CHANNELS) session.left.add(channel)
    await subscriptions.end(connection, subscription)
  })
}

/** True if this Unix time in seconds has passed; undefined never does. */
export function hasPassed (until: number | undefined): boolean {
  return until !== undefined && until * 1_000 <= Date.now()
}

/** True if the client has left this channel before, or so many that no more are remembered. */
function returns ({ left }: SubscribingSession, channel: string): boolean {
  return left !== undefined && (left.has(channel) || left.size >= MAX_CHANNELS)
}

/** Clients recover when they reconnect. One that leaves and comes back reads as by `history`, so it costs as much. */
function payRead (session: SubscribingSession, channel: string): void {
  if (!returns(session, channel) || session.connection.inbox.takeRead()) return
  throw new ReplyError(clientErrors.tooManyRequests, 'the client comes back to channels faster than rateLimit.messages allows')
}

/** True if the subscription reads publications, and not the position alone. */
function reads ({ namespaces }: ClientSubscribes, { channel, since }: Subscription): boolean {
  return since !== undefined || startOf(namespaces.rules(channel)) !== 'missed'
}

function reserve (parts: ClientSubscribes, session: SubscribingSession, { channel, since, prepare }: ClientSubscribe): Subscription {
  const { connection } = session
  if (connection.subscriptions.has(channel)) throw new ReplyError(clientErrors.alreadySubscribed)
  if (connection.subscriptions.size >= MAX_CHANNELS) {
    throw new ReplyError(clientErrors.limitExceeded, `the connection has ${MAX_CHANNELS} subscriptions, which is the maximum`)
  }
  const { history, joinLeave } = parts.namespaces.rules(channel)
  const subscription = new Subscription(connection, channel, false)
  subscription.joinLeave = joinLeave
  subscription.since = history === undefined ? undefined : since
  prepare?.(subscription)
  if (reads(parts, subscription)) payRead(session, channel)
  connection.addSubscription(subscription)
  return subscription
}

/** Joins the channel and admits the subscription. */
async function enter (
  parts: ClientSubscribes, session: SubscribingSession, subscription: Subscription, request: ClientSubscribe,
  admitted: (admitted: Admitted) => void
): Promise<void> {
  const { connection } = session
  const { channel, details, rejectsUnrecovered, byToken } = request
  const grant = await parts.permissions.subscribe(connection, channel, details, byToken && (() => byToken(subscription)))
  const { data, info, expiresAt, since } = grant
  if (hasPassed(expiresAt)) throw new ReplyError(clientErrors.expired, OVER)
  const payload = data === undefined ? undefined : encodePayload(data)
  if (info !== undefined) encodePayload(info) // both throw for data that cannot be sent, so they come before the join
  subscription.info = info
  const own = subscription.since
  await join(parts, session, subscription, since, rejectsUnrecovered)
  if (reads(parts, subscription) && returns(session, channel)) connection.inbox.chargeRead(subscription.recoveryBytes)
  if (hasPassed(expiresAt)) throw new ReplyError(clientErrors.expired, OVER)
  // No `await` from here on: publications reach the client from its admission on, so the reply must leave first.
  const recovery = admit(parts.observer, subscription, own, rejectsUnrecovered)
  admitted({ subscription, recovery, recovering: own !== undefined, data: payload, expiresAt })
}

/**
 * Joins the channel, to recover from the client's own position. Where it has none, or where too much was published
 * since, `subscription.since` becomes the position of the snapshot: a client that returns must not lose what it missed.
 */
async function join (
  parts: ClientSubscribes, session: SubscribingSession, subscription: Subscription, snapshot: Position | undefined,
  rejects: boolean
): Promise<void> {
  const { subscriptions } = parts
  const { connection } = session
  const own = subscription.since
  if (own === undefined && snapshot !== undefined) {
    if (!reads(parts, subscription)) payRead(session, subscription.channel)
    subscription.since = snapshot
  }
  await subscriptions.join(connection, subscription)
  if (own === undefined || snapshot === undefined || rejects || subscription.recovers) return
  await subscriptions.recoverFrom(connection, subscription, snapshot)
}

/** @param own The position that the client has named. If `subscription.since` is another, that is the snapshot's. */
function admit (observer: Observer, subscription: Subscription, own: Position | undefined, rejects: boolean): Recovery | undefined {
  const { channel, since } = subscription
  const snapshot = since === own ? undefined : since
  const onlyRecovered = snapshot !== undefined || (own !== undefined && rejects)
  const recovery = subscription.admit(onlyRecovered)
  if (recovery === undefined) return undefined
  if (own !== undefined) observer.recovered(recovery.recovered && snapshot === undefined)
  if (snapshot === undefined) {
    if (onlyRecovered && !recovery.recovered) {
      throw new ReplyError(clientErrors.unrecoverablePosition, "the history no longer has everything after the client's position")
    }
    return recovery
  }
  if (recovery.recovered) return afterSnapshot(recovery)
  observer.callFailed('onSubscribe', snapshotGap(channel, snapshot, recovery))
  // It is temporary: the client asks again, and the app reads a newer snapshot.
  throw new ReplyError(clientErrors.internal, 'the snapshot of onSubscribe would have a gap, see call.failed')
}
