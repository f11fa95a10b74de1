import type { PublishOptions } from '../../core/publisher.ts'
import { memberOf } from '../../core/subscriptions.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Payload } from '../../model/publication.ts'
import { checkChange } from '../../options/publish-change.ts'
import type { Context } from './context.ts'
import { clientErrors, ReplyError } from './errors.ts'
import type { Handler } from './handler.ts'
import { channelOf, dataOf, isForUser, knownRules, NOT_FOR_USER, payloadOfCommand } from './requests.ts'
import type { CommandData } from './schema.ts'
import type { SdkSession } from './session.ts'

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
  const { payload, options } = await authorize(context, session, channel, data)
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

interface Allowed {
  readonly payload: Payload
  readonly options: PublishOptions
}

/** Asks the rules, then the app's `onPublish`, which can refuse and change it. @throws ReplyError (102, 103, 111) */
async function authorize (context: Context, { connection }: SdkSession, channel: string, sent: CommandData): Promise<Allowed> {
  const { publish, publishLimit } = knownRules(context.namespaces, channel)
  const data = dataOf(sent)
  if (!isForUser(channel, connection.user)) throw new ReplyError(clientErrors.permissionDenied, NOT_FOR_USER)
  const allowed = typeof publish === 'function' ? await publish(connection, channel, data) : publish
  if (!allowed) throw new ReplyError(clientErrors.permissionDenied, "the namespace's publish rule does not allow it")
  if (publishLimit !== undefined && !context.publishLimits.take(connection, channel, publishLimit, Date.now())) {
    throw new ReplyError(clientErrors.tooManyRequests, "the user publishes faster than the namespace's publishLimit allows")
  }
  const change = await context.options.onPublish?.(connection, channel, data)
  if (change === false) throw new ReplyError(clientErrors.permissionDenied, 'onPublish returned false')
  if (typeof change !== 'object' || change === null) return { payload: payloadOfCommand(sent), options: {} }
  const { data: changed, ...options } = checkChange(change)
  return { payload: changed === undefined ? payloadOfCommand(sent) : encodePayload(changed), options }
}
