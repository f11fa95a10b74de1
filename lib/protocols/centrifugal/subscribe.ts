import type { Connection } from '../../core/connection.ts'
import { subscribeClient, unsubscribeClient } from '../../core/client-subscribe.ts'
import type { Subscription } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { compileFilter, filterRefused } from '../../model/tags-filter.ts'
import type { FilterNode, TagsFilter } from '../../model/tags-filter.ts'
import type { SubscribeGrant } from '../../options/subscribe-grant.ts'
import { compactEncoder } from './compact.ts'
import type { Context } from './context.ts'
import { DisconnectError, tokenRefused } from './errors.ts'
import { expireSubscription } from './expiry.ts'
import { filteredEncoder } from './filter.ts'
import type { Handler } from './handler.ts'
import { subscribeReply } from './replies.ts'
import { anyChannelOf, channelOf, dataOf, positionOf } from './requests.ts'
import type { RequestOf } from './schema.ts'
import { expiresAt, verifySubscriptionToken } from './tokens.ts'

type Request = RequestOf<'subscribe'>

/** Bit of `flag`: the client takes a number in place of the channel's name. */
const COMPACTION = 1
/** Bit of `flag`: the client prefers an error to a subscription that did not recover. */
const REJECT_UNRECOVERED = 2

/** Handles `subscribe`, and replies with what the client missed. */
export const subscribe: Handler<'subscribe'> = async (context, session, request, reply) => {
  const { token = '', data, flag = 0, recover } = request
  const { connection } = session
  const channel = checkRequest(request)
  const filter = filterOf(context, channel, request)
  const numbered = (flag & COMPACTION) !== 0 && session.takesNumbers && context.namespaces.rules(channel).compaction
  const compact = numbered ? compactEncoder(session.encoder, channel) : undefined
  await subscribeClient(context, session, {
    channel,
    since: recover ? positionOf(request) : undefined,
    rejectsUnrecovered: (flag & REJECT_UNRECOVERED) !== 0,
    details: data === undefined ? {} : { data: dataOf(data) },
    prepare: subscription => {
      const whole = compact ?? session.encoder
      subscription.filter = filter?.matches
      subscription.encoder = filter === undefined ? whole : filteredEncoder(whole, channel, filter)
    },
    byToken: token === '' ? undefined : subscription => grantByToken(context, connection, subscription, token)
  }, ({ subscription, recovery, recovering, data, expiresAt }) => {
    if (recovery === undefined) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState) // a gap
    const expiry = expireSubscription(session, subscription, expiresAt)
    const delta = context.deltas?.negotiate(subscription, request)
    const start = subscribeReply(recovery, recovering, delta?.toReply)
    const agreed = { ...(compact !== undefined && { id: compact.number }), ...(delta !== undefined && { delta: true }) }
    reply({ ...start, ...expiry, ...agreed, ...(data !== undefined && { data }) })
    session.pushAll(subscription, recovery.live, recovery.missed.at(-1))
    if (delta !== undefined) subscription.follow(recovery.live.at(-1) ?? recovery.missed.at(-1))
  })
}

/** Handles `unsubscribe`. SDKs take an error here for a broken connection. */
export const unsubscribe: Handler<'unsubscribe'> = async (context, session, request, reply) => {
  await unsubscribeClient(context, session, anyChannelOf(request))
  reply({})
}

/** Checks the request before the subscribe waits for its turn. Returns the channel. */
function checkRequest (request: Request): string {
  const channel = channelOf(request)
  const { delta = '', type = 0 } = request
  if (delta !== '' && delta !== 'fossil') throw new DisconnectError(sdkOnlyCloseCodes.badRequest, 'delta is neither empty nor fossil')
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable, 'maps and shared polls are not supported')
  return channel
}

/** @throws ReplyError (107) */
function filterOf ({ namespaces }: Context, channel: string, { tf, delta = '' }: Request): TagsFilter | undefined {
  const rules = namespaces.find(channel)
  if (tf === undefined || rules === undefined) return undefined // an unknown namespace is refused when it is its turn
  if (!rules.tagsFilter) throw filterRefused('the namespace does not allow tags filters')
  if (delta !== '') throw filterRefused('a tags filter and delta do not go together')
  return compileFilter(tf as FilterNode)
}

async function grantByToken (
  { tokens }: Context, connection: Connection, subscription: Subscription, token: string
): Promise<SubscribeGrant> {
  const denied = new ReplyError(clientErrors.permissionDenied)
  if (tokens === undefined) throw tokenRefused(denied, 'the client sent a token, and the option token is not set')
  const claims = await verifySubscriptionToken(tokens, token, subscription.channel, connection, denied)
  const until = expiresAt(claims)
  subscription.refreshable = until !== undefined
  const { info, data, override } = claims
  subscription.overrides = override
  subscription.joinLeave = override?.pushJoinLeave ?? subscription.joinLeave
  return { info, data, ...(until !== undefined && { expiresAt: until }) }
}
