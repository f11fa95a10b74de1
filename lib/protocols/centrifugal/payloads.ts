import { isUtf8 } from 'node:buffer'
import { encodePayload } from '../../model/publication.ts'
import type { Payload } from '../../model/publication.ts'
import { clientErrors, ReplyError } from './errors.ts'
import type { CommandData } from './schema.ts'

const LINE_FEED = 10
const CARRIAGE_RETURN = 13

/** Decodes the data of a command, for the app. Protobuf clients send JSON as bytes; other bytes stay a Buffer. */
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
    throw new ReplyError(clientErrors.badRequest)
  }
}

function hasLineBreak (bytes: Buffer): boolean {
  return bytes.includes(LINE_FEED) || bytes.includes(CARRIAGE_RETURN)
}

/** Encodes data of the app; undefined stays undefined. @throws FST_CRWS_INVALID_DATA */
export function payloadOf (data: unknown): Payload | undefined {
  return data === undefined ? undefined : encodePayload(data)
}
