import type { Frame } from '../core/protocol.ts'

/** Opcodes of data frames (RFC 6455, section 11.8), with the bit that says that the frame is the whole message. */
const TEXT = 0x81
const BINARY = 0x82
/** Lengths that fit the first byte, and the 16 bits after it (RFC 6455, section 5.2). */
const SHORT = 125
const MEDIUM = 0xFFFF

/** WebSocket messages that leave together: framed and joined once, the same bytes for every connection. */
export class Batch {
  readonly frames: readonly Frame[]
  /** Bytes of the payloads. */
  readonly size: number
  #bytes: Buffer | undefined

  constructor (frames: readonly Frame[]) {
    this.frames = frames
    this.size = frames.reduce((sum, { payload }) => sum + payload.length, 0)
  }

  /** As they go on the wire. */
  get bytes (): Buffer {
    this.#bytes ??= Buffer.concat(this.frames.flatMap(({ payload, binary }) => [header(payload.length, binary), payload]))
    return this.#bytes
  }
}

/** Of a frame from a server, which is not masked. */
function header (length: number, binary: boolean): Buffer {
  const opcode = binary ? BINARY : TEXT
  if (length <= SHORT) return Buffer.from([opcode, length])
  if (length <= MEDIUM) return Buffer.from([opcode, 126, length >> 8, length & 0xFF])
  const long = Buffer.alloc(10)
  long[0] = opcode
  long[1] = 127
  long.writeBigUInt64BE(BigInt(length), 2)
  return long
}
