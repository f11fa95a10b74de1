import type { CloseName, End } from './close-codes.ts'
import type { ProtocolName, TransportName } from './connection.ts'
import type { Publication } from './publication.ts'

/** One message, ready to be sent to any number of connections: of a WebSocket, or a piece of a response. */
export interface Frame {
  readonly payload: Buffer
  readonly binary: boolean
  /** True if the payload is compressed (RFC 7692). */
  readonly deflated?: true
}

/** Messages that leave together: the same bytes for every connection. */
export interface Batch {
  readonly frames: readonly Frame[]
  /**
   * The frames as they go on the wire, and the bytes of their payloads. Set by the first outbox that writes the
   * batch.
   */
  bytes: Buffer | undefined
  payloadBytes: number
  /** True if the frames may be compressed. */
  readonly compressible: boolean
  /** The same batch compressed, by what compressed it. Set like `bytes`. */
  deflated?: Map<unknown, Batch>
}

/** Turns what happens in channels into frames: one object serves all subscriptions that get the same bytes. */
export interface PublicationEncoder {
  /** True if clients that have the publication before get a publication as the difference to that one. */
  readonly patches?: boolean
  /**
   * The message that carries one publication. undefined: it is not for those who have this encoder.
   * @param previous The publication that those who get this one have received last; undefined: some have not.
   */
  publication (channel: string, publication: Publication, previous?: Publication): Frame | undefined
  /** Joins frames of publications into as few messages as clients accept, in order. Absent: each frame is a message. */
  join? (frames: readonly Frame[]): readonly Frame[]
  /** The message that announces a join or a leave. undefined: the protocol has none. */
  event (channel: string, event: Publication): Frame | undefined
}

/**
 * Turns publications and messages into frames. It knows no connection: one object serves all that speak the protocol.
 */
export interface Encoder extends PublicationEncoder {
  readonly name: ProtocolName
  readonly transport: TransportName
  publication (channel: string, publication: Publication, previous?: Publication): Frame
  /** Close code, reason and cause with which this protocol ends a connection. */
  endOf (how: CloseName | End): End
  /** The message that `connection.send` sends. */
  message (data: unknown): Frame
  /** The message to send just before the close frame. undefined: the protocol has none for this end. */
  closingMessage (end: End): Frame | undefined
}

/**
 * The messages in which these publications go out, in order.
 * @param previous The publication that the client has received last.
 */
export function framesOf (
  encoder: PublicationEncoder, channel: string, publications: readonly Publication[], previous?: Publication
): readonly Frame[] {
  const frames = publications.map((publication, i) => encoder.publication(channel, publication, publications[i - 1] ?? previous))
  const sent = frames.filter(frame => frame !== undefined)
  return encoder.join?.(sent) ?? sent
}
