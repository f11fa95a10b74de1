import type { FastifyRequest } from 'fastify'
import type { CloseCode, CloseName, End } from '../model/close-codes.ts'
import type { Connection, SubscribeResult } from './connection.ts'
import type { Joining } from '../hub/joining.ts'
import type { Identity } from '../options/options.ts'
import type { Publication } from '../model/publication.ts'

/** One WebSocket message, ready to be sent to any number of connections. */
export interface Frame {
  readonly payload: Buffer
  readonly binary: boolean
}

/** The messages in which these publications go out, in order. */
export function framesOf (protocol: Protocol, channel: string, publications: readonly Publication[]): readonly Frame[] {
  return protocol.join(publications.map(publication => protocol.publication(channel, publication)))
}

/**
 * How a connection's bytes become calls, and publications and messages become frames. One object serves all connections
 * that speak it; what differs between them lives in the connection.
 */
export interface Protocol {
  readonly name: 'plain' | 'json' | 'protobuf'
  /** Its place in a list of frames, one per protocol. */
  readonly index: number
  /** What it says with which end. */
  readonly closes: Readonly<Record<CloseName, CloseCode>>
  /** The upgrade is done. */
  opened (connection: Connection, identity: Identity | undefined, request: FastifyRequest): void
  /** Handles one message. The next one of the same connection waits until the promise has settled. A rejection is the host's fault. */
  handle (connection: Connection, data: Buffer, binary: boolean): void | Promise<void>
  /** Asks for a sign of life. */
  ping (connection: Connection): void
  /** At every sweep of the heartbeat. */
  sweep (connection: Connection, now: number): void
  /** The message in which this publication goes out alone. */
  publication (channel: string, publication: Publication): Frame
  /** The same publications in as few messages as clients take, in order. */
  join (frames: readonly Frame[]): readonly Frame[]
  /** A join or a leave; undefined: it has no form for it. */
  event (channel: string, event: Publication): Frame | undefined
  /** What `connection.send` sends. */
  message (data: unknown): Frame
  /** Says goodbye ahead of the close frame, where the protocol has a word for it. */
  goodbye (end: End): Frame | undefined
  /** The host, not the client, has subscribed it: admits it now, or when the client is ready for it. */
  subscribed (connection: Connection, channel: string, joining: Joining): SubscribeResult
  /** The host, not the client, has unsubscribed it. */
  unsubscribed (connection: Connection, channel: string): void
  /** What it knows of this channel is not all there is. */
  renewed (connection: Connection, channel: string): void
}
