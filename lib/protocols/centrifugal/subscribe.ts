import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import type { SubscribeRequest } from './schema.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Commands } from './commands.ts'
import { InvalidArgumentError } from '../../model/errors.ts'
import type { SubscribeGrant } from '../../options/options.ts'
import { payloadOf, subscribeReply, ttl } from './replies.ts'
import { channelOf, dataOf, isForUser } from './requests.ts'
import type { Done } from './requests.ts'
import { endOf } from './session.ts'
import type { SdkSession, Subscription } from './session.ts'
import { expiresAt } from './tokens.ts'
import type { SubscriptionClaims } from './tokens.ts'

/** Channels of one connection, those on their way in included. */
const MAX_CHANNELS = 128
/** Bit of `flag`: rather an error than a subscription that could not recover. */
const REJECT_UNRECOVERED = 2

/** In turn with other commands of the same channel; late answers of what was given up touch nothing, as every step looks again whether the connection is open. */
export async function subscribe (commands: Commands, session: SdkSession, request: SubscribeRequest, done: Done): Promise<void> {
  const channel = checkRequest(request)
  const { connection, subscriptions } = session
  const subscription: Subscription = { serverSide: false, joinLeave: false, info: undefined, expiresAt: Infinity, refreshable: false }
  const known = subscriptions.get(channel)
  // An unsubscribe that is under way makes room for it: it is looked at again in turn.
  if (known !== undefined && !connection.busy(channel)) throw new ReplyError(clientErrors.alreadySubscribed)
  await connection.inTurn(channel, async () => {
    if (subscriptions.has(channel)) throw new ReplyError(clientErrors.alreadySubscribed)
    if (subscriptions.size >= MAX_CHANNELS) throw new ReplyError(clientErrors.limitExceeded)
    subscriptions.set(channel, subscription)
    try {
      await enter(commands, session, channel, request, subscription, done)
    } catch (error) {
      subscriptions.delete(channel)
      await commands.instance.leave(connection, channel) // if it failed with the answer
      throw error
    }
  })
}

async function enter (commands: Commands, session: SdkSession, channel: string, request: SubscribeRequest, subscription: Subscription, done: Done): Promise<void> {
  const { instance } = commands
  const { connection } = session
  const { data, info, expiresAt: until } = await authorize(commands, session, channel, request, subscription)
  subscription.info = info
  subscription.joinLeave = commands.rules(channel).joinLeave
  const recovering = request.recover === true && commands.rules(channel).history !== undefined
  const since = recovering ? { offset: request.offset ?? 0, epoch: request.epoch ?? '' } : undefined
  const payload = payloadOf(data) // before anybody is in: it may throw
  payloadOf(info)
  const joining = await instance.join(connection, channel, since, info)
  if (until !== undefined && until * 1_000 <= Date.now()) { // on its way in
    await instance.turnAway(connection, channel, joining)
    throw new ReplyError(clientErrors.expired)
  }
  const onlyRecovered = recovering && ((request.flag ?? 0) & REJECT_UNRECOVERED) !== 0
  const caughtUp = joining.admit(onlyRecovered)
  if (caughtUp === undefined) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
  if (recovering) instance.recovery(caughtUp.recovered)
  if (onlyRecovered && !caughtUp.recovered) {
    await instance.turnAway(connection, channel, joining)
    throw new ReplyError(clientErrors.unrecoverablePosition)
  }
  if (until !== undefined) expireAt(session, subscription, until)
  done({
    ...subscribeReply(caughtUp, recovering),
    ...(subscription.refreshable && { expires: true, ttl: ttl(subscription.expiresAt) }),
    ...(payload !== undefined && { data: payload })
  })
  session.pushAll(channel, caughtUp.live)
  instance.joined(connection, channel)
}

/** A new token for a subscription that lives by one. */
export async function subRefresh (commands: Commands, session: SdkSession, request: { channel?: string, token?: string, type?: number }, done: Done): Promise<void> {
  const channel = channelOf(request)
  if (request.type) throw new ReplyError(clientErrors.notAvailable)
  await session.connection.settled(channel) // its subscribe may be in the same frame
  const subscription = session.subscriptions.get(channel)
  if (subscription === undefined) throw new ReplyError(clientErrors.permissionDenied)
  if (request.token === undefined || request.token === '') throw new ReplyError(clientErrors.badRequest)
  if (!subscription.refreshable) throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  const claims = await verify(commands, session, channel, request.token, new DisconnectError(sdkOnlyCloseCodes.invalidToken))
  const until = expiresAt(claims)
  if (until !== undefined && until * 1_000 <= Date.now()) throw new ReplyError(clientErrors.expired)
  expireAt(session, subscription, until ?? Infinity)
  done(until === undefined ? {} : { expires: true, ttl: ttl(subscription.expiresAt) })
}

/** Unix time in seconds. */
function expireAt (session: SdkSession, subscription: Subscription, until: number): void {
  subscription.expiresAt = until * 1_000
  session.nextExpiry = Math.min(session.nextExpiry, endOf(subscription))
}

/** What can be said without asking anybody. */
function checkRequest (request: SubscribeRequest): string {
  const channel = channelOf(request)
  if (request.delta !== undefined && request.delta !== '' && request.delta !== 'fossil') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  if (request.tf !== undefined) throw new ReplyError(clientErrors.badRequest)
  if (request.type) throw new ReplyError(clientErrors.notAvailable)
  return channel
}

/** The token decides where there is one; else the rules, and then the host. */
async function authorize (commands: Commands, session: SdkSession, channel: string, request: SubscribeRequest, subscription: Subscription): Promise<SubscribeGrant> {
  const { connection } = session
  const rules = commands.knownRules(channel)
  if (!isForUser(channel, connection.user)) throw new ReplyError(clientErrors.permissionDenied)
  const { token = '', data } = request
  let grant: SubscribeGrant = {}
  if (token !== '') {
    grant = await grantByToken(commands, session, channel, token, subscription)
  } else if (rules.token || !(typeof rules.subscribe === 'function' ? await rules.subscribe(connection, channel) : rules.subscribe)) {
    throw new ReplyError(clientErrors.permissionDenied)
  }
  const answer = await commands.instance.options.onSubscribe?.(connection, channel, data === undefined ? {} : { data: dataOf(data) })
  if (answer === false) throw new ReplyError(clientErrors.permissionDenied)
  if (typeof answer === 'object' && answer !== null) grant = merge(grant, answer)
  if (grant.expiresAt !== undefined && grant.expiresAt * 1_000 <= Date.now()) throw new ReplyError(clientErrors.expired)
  return grant
}

/** What the host leaves out stays as the token says. */
function merge (grant: SubscribeGrant, { data = grant.data, info = grant.info, expiresAt = grant.expiresAt }: SubscribeGrant): SubscribeGrant {
  if (expiresAt !== undefined && !Number.isFinite(expiresAt)) throw new InvalidArgumentError('expiresAt from onSubscribe', String(expiresAt), 'a Unix time in seconds')
  return { data, info, ...(expiresAt !== undefined && { expiresAt }) }
}

async function grantByToken (commands: Commands, session: SdkSession, channel: string, token: string, subscription: Subscription): Promise<SubscribeGrant> {
  const claims = await verify(commands, session, channel, token, new ReplyError(clientErrors.permissionDenied))
  const until = expiresAt(claims)
  Object.assign(subscription, { refreshable: until !== undefined })
  const { info, data } = claims
  return { ...(info !== undefined && { info }), ...(data !== undefined && { data }), ...(until !== undefined && { expiresAt: until }) }
}

/** @throws `invalid` for a token that was never right; one for somebody or something else ends the connection. */
async function verify ({ tokens }: Commands, { connection }: SdkSession, channel: string, token: string, invalid: Error): Promise<SubscriptionClaims> {
  if (tokens === undefined) throw new ReplyError(clientErrors.permissionDenied)
  const claims = await tokens.verify<SubscriptionClaims>(token, { expired: new ReplyError(clientErrors.tokenExpired), invalid })
  const matches = claims.channel === channel && (claims.sub ?? '') === connection.user && (claims.client ?? connection.id) === connection.id
  if (!matches) throw new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  return claims
}
