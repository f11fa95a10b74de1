import type { Command, Reply } from './schema.ts'

/** One of the two encodings of the Centrifugal protocol. Everything else of it is the same for both. */
export interface Codec {
  readonly name: 'json' | 'protobuf'
  readonly index: number
  /** Whether its frames are binary WebSocket messages. */
  readonly binary: boolean
  /** One frame: one command or several. @throws whatever, for what is not in the form of the protocol. */
  decode (frame: Buffer): Command[]
  /** One frame: one reply. */
  encode (reply: Reply): Buffer
  /** One frame out of several, which each hold one reply. */
  join (frames: Buffer[]): Buffer
}
