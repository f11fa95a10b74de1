import type { Command, Reply } from './schema.ts'

/** One of the two encodings of the Centrifugal protocol; all else is the same for both. */
export interface Codec {
  readonly name: 'json' | 'protobuf'
  /** True if a frame is a binary WebSocket message. */
  readonly binary: boolean
  /** Reads a frame: one command or several. @throws if the bytes are not a valid frame. */
  decode (frame: Buffer): Command[]
  /** Writes a frame that holds one reply. */
  encode (reply: Reply): Buffer
  /** Joins frames of one reply each into one frame. */
  join (frames: Buffer[]): Buffer
}
