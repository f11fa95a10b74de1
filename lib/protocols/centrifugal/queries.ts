import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Context } from './context.ts'
import type { Handler } from './handler.ts'
import { clientInfo, replyPublication } from './replies.ts'
import { channelOf, positionOf } from './requests.ts'
import type { SdkSession } from './session.ts'

/** Publications in one reply, as many as Centrifugo sends by default. */
const MAX_PUBLICATIONS = 300
/** Members in one reply. A room with more of them has `presence_stats`. */
const MAX_MEMBERS = 1_000

/**
 * Handles `presence`: all members of a channel, by the id of their connection. Where they are too many it is refused
 * before they are read.
 */
export const presence: Handler<'presence'> = async (context, session, request, reply) => {
  const channel = channelOf(request)
  await context.permissions.presence(session.connection, channel)
  const members = await read(context, session, channel, 'presence', async () => {
    const { clients } = await context.presence.stats(channel)
    if (clients > MAX_MEMBERS) throw new ReplyError(clientErrors.limitExceeded, `there are more than ${MAX_MEMBERS} members: use presence_stats`)
    return context.presence.list(channel)
  })
  reply({ presence: Object.fromEntries(members.map(member => [member.client, clientInfo(member)])) })
}

/** Handles `presence_stats`: the number of connections and of users in a channel. */
export const presenceStats: Handler<'presence_stats'> = async (context, session, request, reply) => {
  const channel = channelOf(request)
  await context.permissions.presence(session.connection, channel)
  const { clients, users } = await read(context, session, channel, 'stats', () => context.presence.stats(channel))
  reply({ num_clients: clients, num_users: users })
}

/**
 * Handles `history`. Without a limit it returns the position alone, with a negative one all publications there are. It
 * returns fewer where they are large: the client reads on from the last one.
 */
export const history: Handler<'history'> = async (context, session, request, reply) => {
  const channel = channelOf(request)
  await context.permissions.history(session.connection, channel)
  const { limit = 0, reverse = false } = request
  const since = request.since && positionOf(request.since)
  if (reverse && since?.offset === 0) throw new ReplyError(clientErrors.badRequest, 'nothing is before offset 0')
  const atMost = limit < 0 ? MAX_PUBLICATIONS : Math.min(limit, MAX_PUBLICATIONS)
  const query = { limit: atMost, since, reverse, maxBytes: context.options.maxBufferedBytes / 2 }
  const { publications, offset, epoch } = await read(context, session, channel, JSON.stringify(query), () => {
    return context.publisher.read(channel, query)
  })
  reply({ publications: publications.map(replyPublication), epoch, offset })
}

/**
 * Shares reads of a channel. Those of a kind wait for each other: no number of histories holds up the others.
 * @throws ReplyError (111) if too many different ones wait.
 */
async function read<T> (
  { reads }: Context, { connection }: SdkSession, channel: string, question: string, call: () => Promise<T>
): Promise<T> {
  const kind = question.startsWith('{') ? 'history' : question
  const answer = await reads.take(`${kind} ${channel}`, question, () => connection.open, call)
  if (answer === undefined) throw new ReplyError(clientErrors.tooManyRequests, 'too many reads of this channel are waiting')
  return answer
}
