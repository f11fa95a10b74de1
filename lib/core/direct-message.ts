import { MessageTooLargeError } from '../model/errors.ts'
import type { Encoder, Frame } from '../model/encoder.ts'
import { decodePayload, encodePayload } from '../model/publication.ts'
import type { PayloadKind } from '../model/publication.ts'
import type { Connection } from './connection.ts'

/** Bytes of the data. Commands are kept for instances that are cut off: a thousand of this size are 64 MiB. */
const MAX_BYTES = 65_536

/** Data as it travels in a command: text as it is, JSON as its text, bytes in Base64. */
export interface MessageFields {
  readonly kind: PayloadKind
  readonly data: string
}

/**
 * Encodes the data of a message to connections.
 * @throws FST_CRWS_INVALID_DATA, FST_CRWS_MESSAGE_TOO_LARGE
 */
export function messageFields (data: unknown): MessageFields {
  const { kind, payload } = encodePayload(data)
  if (payload.length > MAX_BYTES) throw new MessageTooLargeError(payload.length, MAX_BYTES)
  return { kind, data: payload.toString(kind === 'binary' ? 'base64' : 'utf8') }
}

/** Sends a message to these connections, encoded once for each protocol. Others can write to Redis: it is checked. */
export function sendMessage (connections: Iterable<Connection>, { kind, data }: MessageFields): void {
  if (typeof data !== 'string' || !(kind === 'text' || kind === 'json' || kind === 'binary')) throw new Error('it carries no data')
  const message = decodePayload({ kind, payload: Buffer.from(data, kind === 'binary' ? 'base64' : 'utf8') })
  const frames = new Map<Encoder, Frame>()
  for (const connection of connections) {
    const { encoder } = connection
    const frame = frames.get(encoder) ?? encoder.message(message)
    frames.set(encoder, frame)
    connection.write(frame)
  }
}
