import type { End } from './close-codes.ts'
import type { Connection } from './connection.ts'
import type { Publication } from './publication.ts'

/** One WebSocket message, ready to be sent to any number of connections. */
export interface Frame {
  readonly payload: Buffer
  readonly binary: boolean
}

/**
 * How a connection's bytes become calls, and publications and messages become frames. One object serves all connections
 * that speak it; what differs between them lives in the connection.
 */
export interface Protocol {
  readonly name: 'plain' | 'json' | 'protobuf'
  /** Its place in a list of frames, one per protocol. */
  readonly index: number
  /** Handles one message. The next one of the same connection waits until the promise has settled. A rejection is the host's fault. */
  handle (connection: Connection, data: Buffer, binary: boolean): void | Promise<void>
  /** Tells the client that it sends too fast and that messages are dropped. */
  tooFast (connection: Connection): void
  publication (channel: string, publication: Publication): Frame
  /** What `connection.send` sends. */
  message (data: unknown): Frame
  /** Says goodbye ahead of the close frame, where the protocol has a word for it. */
  goodbye (end: End): Frame | undefined
}
