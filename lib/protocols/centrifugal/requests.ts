import { isUtf8 } from 'node:buffer'
import { checkChannel } from '../../model/channel-rules.ts'
import { checkKeys, isSuspect, MAX_DEPTH } from '../../model/client-json.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Payload, Position } from '../../model/publication.ts'
import { isDeeperThan } from '../../util/nesting.ts'
import { DisconnectError } from './errors.ts'
import type { CommandData } from './schema.ts'

const LINE_FEED = 10
const CARRIAGE_RETURN = 13

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
  if (channel === '') throw new DisconnectError(sdkOnlyCloseCodes.badRequest, 'the command names no channel')
  return channel
}

/** The position that a request names. SDKs leave out a zero and an empty string. */
export function positionOf ({ offset = 0, epoch = '' }: { offset?: number, epoch?: string }): Position {
  return { offset, epoch }
}

/**
 * False for data that no handler can use: it has a key that `dataOf` refuses, or it can be read but not written again,
 * by JSON.stringify or by a function that calls itself.
 */
export function isUsable (data: CommandData | undefined): boolean {
  try {
    return !isDeeperThan(MAX_DEPTH, dataOf(data))
  } catch {
    return false
  }
}

/**
 * Decodes the data of a command, for the app. Protobuf clients send JSON as bytes; other bytes stay a Buffer.
 * @throws ReplyError for a key that changes the prototype of objects. In JSON such a frame is not decoded at all.
 */
export function dataOf (data: CommandData | undefined): unknown {
  if (data === undefined) return undefined
  if ('value' in data) return data.value
  if (!isUtf8(data.bytes)) return data.bytes
  const text = data.bytes.toString()
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return data.bytes
  }
  try {
    if (isSuspect(text)) checkKeys(value)
  } catch {
    throw new ReplyError(clientErrors.badRequest, 'the data has a key that changes the prototype of objects')
  }
  return value
}

/**
 * Encodes the data of a command, to be published as it is.
 * @throws ReplyError for a value that can be parsed but not written: it is nested some thousand levels deep.
 */
export function payloadOfCommand (data: CommandData): Payload {
  const value = dataOf(data)
  if (Buffer.isBuffer(value)) return { kind: 'binary', payload: value }
  // The bytes as they came keep every digit of a number. Only a line break must go: it would end a reply in JSON.
  if ('bytes' in data && !hasLineBreak(data.bytes)) return { kind: 'json', payload: data.bytes }
  try {
    // A string from a client is JSON like any other value.
    return { kind: 'json', payload: Buffer.from(JSON.stringify(value)) }
  } catch {
    throw new ReplyError(clientErrors.badRequest, 'the data is nested too deep')
  }
}

function hasLineBreak (bytes: Buffer): boolean {
  return bytes.includes(LINE_FEED) || bytes.includes(CARRIAGE_RETURN)
}
