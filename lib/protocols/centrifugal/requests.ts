import { checkChannel } from '../../model/channel-rules.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Position } from '../../model/publication.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import type { SdkSession } from './session.ts'

/**
 * The channel that a request names.
 * @throws DisconnectError (3501) if it names none, which no SDK does.
 * @throws FST_CRWS_INVALID_CHANNEL, above all for the internal channels through which instances command each other.
 */
export function channelOf (request: { channel?: string }): string {
  return checkChannel(anyChannelOf(request))
}

/** The same without a check of the name, for commands that only look it up. */
export function anyChannelOf ({ channel = '' }: { channel?: string }): string {
  if (channel === '') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  return channel
}

/** The position that a request names. SDKs leave out a zero and an empty string. */
export function positionOf ({ offset = 0, epoch = '' }: { offset?: number, epoch?: string }): Position {
  return { offset, epoch }
}

/** Whether this user may enter a user-limited channel: `inbox:#42` is for user 42 alone, `dialog:#42,43` for both. */
export function isForUser (channel: string, user: string): boolean {
  const hash = channel.indexOf('#')
  return hash === -1 || (user !== '' && channel.slice(hash + 1).split(',').includes(user))
}

/**
 * The channel of a query for presence or history.
 * @throws ReplyError (102, 108, 103) if its namespace is unknown, lacks the feature, or the client is not subscribed.
 */
export async function subscribedChannel (
  context: Context, { connection }: SdkSession, request: { channel?: string }, feature: 'presence' | 'history'
): Promise<string> {
  const channel = channelOf(request)
  if (!context.knownRules(channel)[feature]) throw new ReplyError(clientErrors.notAvailable)
  await connection.settled(channel) // its subscribe may be in the same frame
  if (!connection.channels.has(channel)) throw new ReplyError(clientErrors.permissionDenied)
  return channel
}
