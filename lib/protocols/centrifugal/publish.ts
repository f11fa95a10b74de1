import { memberOf } from '../../core/subscriptions.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Handler } from './handler.ts'
import { channelOf, dataOf, payloadOfCommand } from './requests.ts'

/** Publishes of one connection that Redis has not acknowledged. The last of them holds up the next command. */
const MAX_PUBLISHING = 64

/**
 * Handles `publish`. The next command does not wait for Redis: publishes reach it in the order in which they are
 * sent.
 */
export const publish: Handler<'publish'> = async (context, session, request, reply, next) => {
  const channel = channelOf(request)
  const { data, type = 0 } = request
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable, 'maps are not supported')
  if (data === undefined) throw new ReplyError(clientErrors.badRequest, 'there is no data')
  const { connection } = session
  await connection.turns.settled(channel) // its subscribe may be in the same frame
  const { payload = payloadOfCommand(data), ...options } = await context.permissions.publish(connection, channel, dataOf(data))
  const publisher = memberOf(connection, connection.subscriptions.get(channel)?.info)
  const acknowledged = context.publisher.publish(channel, payload, options, publisher)
  if (++session.publishing < MAX_PUBLISHING) next?.()
  try {
    await acknowledged
  } finally {
    session.publishing--
  }
  reply({})
}
