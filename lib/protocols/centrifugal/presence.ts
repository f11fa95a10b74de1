import type { Answer } from './answer.ts'
import type { Context } from './context.ts'
import { clientInfo } from './replies.ts'
import { subscribedChannel } from './requests.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'

/** Handles `presence`: all members of a channel, by the id of their connection. */
export async function presence (context: Context, session: SdkSession, request: RequestOf<'presence'>): Promise<Answer> {
  const channel = await subscribedChannel(context, session, request, 'presence')
  const members = await context.presence.list(channel)
  return { result: { presence: Object.fromEntries(members.map(member => [member.client, clientInfo(member)])) } }
}

/** Handles `presence_stats`: the number of connections and of users in a channel. */
export async function presenceStats (context: Context, session: SdkSession, request: RequestOf<'presence_stats'>): Promise<Answer> {
  const channel = await subscribedChannel(context, session, request, 'presence')
  const { clients, users } = await context.presence.stats(channel)
  return { result: { num_clients: clients, num_users: users } }
}
