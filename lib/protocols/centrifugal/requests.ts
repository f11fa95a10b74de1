import { checkChannel } from '../../model/channel-rules.ts'
import type { ChannelNamespaces, ChannelRules } from '../../model/channel-rules.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Position } from '../../model/publication.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'

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

/** @throws ReplyError (102) for a namespace that is not in the option `channels`. */
export function knownRules (namespaces: ChannelNamespaces, channel: string): ChannelRules {
  const rules = namespaces.find(channel)
  if (rules === undefined) throw new ReplyError(clientErrors.unknownChannel)
  return rules
}

/** The position that a request names. SDKs leave out a zero and an empty string. */
export function positionOf ({ offset = 0, epoch = '' }: { offset?: number, epoch?: string }): Position {
  return { offset, epoch }
}

/** True if this user may enter a user-limited channel: `inbox:#42` is for user 42 alone, `dialog:#42,43` for both. */
export function isForUser (channel: string, user: string): boolean {
  const hash = channel.indexOf('#')
  return hash === -1 || (user !== '' && channel.slice(hash + 1).split(',').includes(user))
}
