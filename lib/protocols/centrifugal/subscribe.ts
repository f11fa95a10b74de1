import type { Connection } from '../../core/connection.ts'
import type { Joining } from '../../hub/joining.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { InvalidArgumentError } from '../../model/errors.ts'
import type { Payload, Position } from '../../model/publication.ts'
import type { SubscribeGrant } from '../../options/options.ts'
import type { Answer, LateAnswer } from './answer.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import { expireSubscription, hasPassed } from './expiry.ts'
import { dataOf, payloadOf } from './payloads.ts'
import { subscribeReply } from './replies.ts'
import { channelOf, isForUser, positionOf } from './requests.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession, Subscription } from './session.ts'
import { expiresAt, verifySubscriptionToken } from './tokens.ts'

/** Channels of one connection, pending subscribes included. */
const MAX_CHANNELS = 128
/** Bit of `flag`: the client prefers an error to a subscription that did not recover. */
const REJECT_UNRECOVERED = 2

/** A subscribe under way. */
interface Attempt {
  readonly channel: string
  readonly subscription: Subscription
  /** Where the client wants to recover from; undefined if it does not, or the channel has no history. */
  readonly since: Position | undefined
  /** Whether to refuse it if it can not recover. */
  readonly onlyRecovered: boolean
}

/** Checks what needs nobody else, before the subscribe waits for its turn. Returns the channel. */
export function checkSubscribe (request: RequestOf<'subscribe'>): string {
  const channel = channelOf(request)
  const { delta = '', tf, type = 0 } = request
  if (delta !== '' && delta !== 'fossil') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  if (tf !== undefined) throw new ReplyError(clientErrors.badRequest)
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable) // a map or a shared poll
  return channel
}

/**
 * Handles `subscribe`, after earlier commands for the same channel: reserve a place, authorize, subscribe to the channel
 * while publications are buffered, then admit the client and reply with what it missed. The steps that wait for others
 * re-check that the connection is open, so a late result is dropped.
 */
export async function subscribe (context: Context, session: SdkSession, request: RequestOf<'subscribe'>): Promise<LateAnswer> {
  const attempt = reserve(context, session, request)
  try {
    const grant = await authorize(context, session, attempt, request)
    const data = payloadOf(grant.data) // before the connection is in the channel: it may throw
    const joining = await join(context, session, attempt, grant)
    return () => admit(context, session, attempt, joining, grant.expiresAt, data)
  } catch (error) {
    session.subscriptions.delete(attempt.channel)
    throw error
  }
}

function reserve (context: Context, { subscriptions }: SdkSession, request: RequestOf<'subscribe'>): Attempt {
  const { channel = '', recover = false, flag = 0 } = request
  if (subscriptions.has(channel)) throw new ReplyError(clientErrors.alreadySubscribed) // [Additional notes]
  if (subscriptions.size >= MAX_CHANNELS) throw new ReplyError(clientErrors.limitExceeded)
  const { history, joinLeave } = context.rules(channel)
  const subscription: Subscription = { serverSide: false, joinLeave, info: undefined, expiresAt: Infinity, refreshable: false }
  subscriptions.set(channel, subscription)
  const since = recover && history !== undefined ? positionOf(request) : undefined
  return { channel, subscription, since, onlyRecovered: since !== undefined && (flag & REJECT_UNRECOVERED) !== 0 }
}

/** Asks the token if there is one, else the rules. Then the app's `onSubscribe` can refuse, or change the grant. */
async function authorize (
  context: Context, { connection }: SdkSession, attempt: Attempt, { token = '', data }: RequestOf<'subscribe'>
): Promise<SubscribeGrant> {
  const { channel } = attempt
  const { subscribe, token: tokenOnly } = context.knownRules(channel)
  if (!isForUser(channel, connection.user)) throw new ReplyError(clientErrors.permissionDenied)
  let grant: SubscribeGrant = {}
  if (token !== '') {
    grant = await grantByToken(context, connection, attempt, token)
  } else if (tokenOnly || !(typeof subscribe === 'function' ? await subscribe(connection, channel) : subscribe)) {
    throw new ReplyError(clientErrors.permissionDenied)
  }
  const answer = await context.options.onSubscribe?.(connection, channel, data === undefined ? {} : { data: dataOf(data) })
  if (answer === false) throw new ReplyError(clientErrors.permissionDenied)
  if (typeof answer === 'object' && answer !== null) grant = merge(grant, answer)
  if (hasPassed(grant.expiresAt)) throw new ReplyError(clientErrors.expired)
  return grant
}

async function grantByToken ({ tokens }: Context, connection: Connection, attempt: Attempt, token: string): Promise<SubscribeGrant> {
  const { channel, subscription } = attempt
  const denied = new ReplyError(clientErrors.permissionDenied)
  if (tokens === undefined) throw denied
  const claims = await verifySubscriptionToken(tokens, token, channel, connection, denied)
  const until = expiresAt(claims)
  subscription.refreshable = until !== undefined
  const { info, data } = claims
  return { ...(info !== undefined && { info }), ...(data !== undefined && { data }), ...(until !== undefined && { expiresAt: until }) }
}

/** Fields that `onSubscribe` leaves out stay as the token has them. */
function merge (grant: SubscribeGrant, answer: SubscribeGrant): SubscribeGrant {
  const { data = grant.data, info = grant.info, expiresAt = grant.expiresAt } = answer
  if (expiresAt !== undefined && !Number.isFinite(expiresAt)) {
    throw new InvalidArgumentError('expiresAt from onSubscribe', String(expiresAt), 'a Unix time in seconds')
  }
  return { data, info, ...(expiresAt !== undefined && { expiresAt }) }
}

/** Resolves when publications are buffered and those that the client missed are read. */
async function join ({ instance }: Context, { connection }: SdkSession, attempt: Attempt, grant: SubscribeGrant): Promise<Joining> {
  const { channel, subscription, since } = attempt
  const { info, expiresAt } = grant
  payloadOf(info) // throws for what others could not be sent
  subscription.info = info
  const joining = await instance.join(connection, channel, since, info)
  if (!hasPassed(expiresAt)) return joining
  await instance.turnAway(connection, channel, joining)
  throw new ReplyError(clientErrors.expired)
}

/** Admits the client. Publications go to it from here on, so the reply must leave in this turn of the event loop. */
function admit (
  { instance }: Context, session: SdkSession, attempt: Attempt, joining: Joining, until: number | undefined, data: Payload | undefined
): Answer {
  const { connection } = session
  const { channel, subscription, since, onlyRecovered } = attempt
  const recovering = since !== undefined
  const caughtUp = joining.admit(onlyRecovered)
  if (caughtUp === undefined) { // a gap
    session.subscriptions.delete(channel)
    instance.leave(connection, channel)
    throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
  }
  if (recovering) instance.recovery(caughtUp.recovered)
  if (onlyRecovered && !caughtUp.recovered) {
    session.subscriptions.delete(channel)
    instance.turnAway(connection, channel, joining)
    throw new ReplyError(clientErrors.unrecoverablePosition)
  }
  const expiry = expireSubscription(session, subscription, until)
  return {
    result: { ...subscribeReply(caughtUp, recovering), ...expiry, ...(data !== undefined && { data }) },
    after () {
      session.pushAll(channel, caughtUp.live)
      instance.joined(connection, channel)
    }
  }
}
