import { publishForClient } from '../../core/client-publish.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Handler } from './handler.ts'
import { channelOf, dataOf, payloadOfCommand } from './requests.ts'

/** Handles `publish`. The next command does not wait for Redis. */
export const publish: Handler<'publish'> = async (context, { connection }, request, reply, next = () => {}) => {
  const channel = channelOf(request)
  const { data, type = 0 } = request
  if (type !== 0) throw new ReplyError(clientErrors.notAvailable, 'maps are not supported')
  if (data === undefined) throw new ReplyError(clientErrors.badRequest, 'there is no data')
  await publishForClient(context, connection, channel, dataOf(data), () => payloadOfCommand(data), next)
  reply({})
}
