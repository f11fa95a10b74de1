import type { Codec } from './codec.ts'
import { jsonCodec } from './json-codec.ts'
import { decodeMessage, protobufCodec } from './protobuf-codec.ts'
import { emulationRequest } from './schema.ts'

/*
 * What the SDKs speak where WebSockets are blocked (centrifugal.dev/docs/transports/http_stream, sse): replies and
 * pushes are pieces of a response that stays open, and what a client sends comes in posts.
 */

/** JSON for `http_stream`: each reply is a line. */
export const lineCodec: Codec = {
  ...jsonCodec,
  encode: reply => Buffer.concat([jsonCodec.encode(reply), Buffer.from('\n')]),
  join: frames => Buffer.concat(frames)
}

/** JSON for `sse`: each reply is an event. */
export const eventCodec: Codec = {
  ...jsonCodec,
  encode: reply => Buffer.concat([Buffer.from('data: '), jsonCodec.encode(reply), Buffer.from('\n\n')]),
  join: frames => Buffer.concat(frames)
}

/** What a client has sent in a post. */
export interface Post {
  /** The instance that has the stream. */
  readonly node: string
  /** The secret of the connection. */
  readonly session: string
  /** A frame of commands, as it would go through a WebSocket. */
  readonly data: Buffer
  /** True if it is Protobuf. */
  readonly binary: boolean
}

/** Reads the body of a post. undefined: it is none. */
export function readPost (body: Buffer, binary: boolean): Post | undefined {
  try {
    const { node, session, data } = binary ? decodeMessage(body, emulationRequest) : JSON.parse(body.toString())
    const bytes = typeof data === 'string' ? Buffer.from(data) : data?.bytes
    if (typeof node !== 'string' || typeof session !== 'string' || !Buffer.isBuffer(bytes) || bytes.length === 0) return undefined
    return { node, session, data: bytes, binary }
  } catch {
    return undefined
  }
}

/**
 * The first and the last id of the commands in a frame. SDKs count them up by one, over all that they send. undefined:
 * none has an id, or it is no frame.
 */
export function idsOf (data: Buffer, binary: boolean): { first: number, last: number } | undefined {
  try {
    const ids = (binary ? protobufCodec : jsonCodec).decode(data).map(({ id = 0 }) => id).filter(id => id > 0)
    return ids.length === 0 ? undefined : { first: Math.min(...ids), last: Math.max(...ids) }
  } catch {
    return undefined
  }
}
