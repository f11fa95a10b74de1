import { isUtf8 } from 'node:buffer'
import { checkChannel } from '../../model/channel-rules.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import type { CommandData } from './schema.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Payload } from '../../model/publication.ts'

/** ms that a connection or a subscription outlives its expiry: a refresh may be under way. */
export const EXPIRY_GRACE = 25_000

const LINE_FEED = 10
const CARRIAGE_RETURN = 13

/** Sends the result of a command, at once. */
export type Done = (result: object) => void

/**
 * @throws what ends the connection: no SDK sends such a command without a channel; FST_CRWS_INVALID_CHANNEL, above all for channels
 * of our own, in which a client could command all instances.
 */
export function channelOf ({ channel = '' }: { channel?: string }): string {
  if (channel === '') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  return checkChannel(channel)
}

/** `inbox:#42` is for user 42 alone, `dialog:#42,43` for both. */
export function isForUser (channel: string, user: string): boolean {
  const hash = channel.indexOf('#')
  return hash === -1 || (user !== '' && channel.slice(hash + 1).split(',').includes(user))
}

/** What a client sent, for the host: SDKs that speak Protobuf carry JSON as its text; what is none stays bytes. */
export function dataOf (data: CommandData | undefined): unknown {
  if (data === undefined) return undefined
  if ('value' in data) return data.value
  if (!isUtf8(data.bytes)) return data.bytes
  try {
    return JSON.parse(data.bytes.toString())
  } catch {
    return data.bytes
  }
}

/** The same, to be sent on. A text from a client is JSON like all else. */
export function payloadOfCommand (data: CommandData): Payload {
  const value = dataOf(data)
  if (Buffer.isBuffer(value)) return { kind: 'binary', payload: value }
  // As it came, so that every digit of a number stays; but a line break would end a document of the JSON encoding.
  if ('bytes' in data && !data.bytes.includes(LINE_FEED) && !data.bytes.includes(CARRIAGE_RETURN)) return { kind: 'json', payload: data.bytes }
  try {
    return { kind: 'json', payload: Buffer.from(JSON.stringify(value)) }
  } catch {
    throw new ReplyError(clientErrors.badRequest) // what can be read but not written is nested some thousand levels deep
  }
}
