import { sdkCloseCodes } from '../../model/close-codes.ts'
import type { CloseName, End } from '../../model/close-codes.ts'
import type { Encoder, Frame } from '../../model/encoder.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Publication } from '../../model/publication.ts'
import type { Codec } from './codec.ts'
import { clientInfo, replyPublication } from './replies.ts'
import type { Command, Reply } from './schema.ts'

/** Publications in one message, as many as Centrifugo joins. */
const MAX_JOINED = 16
/** Bytes of publications in one message, unless a single one has more. */
const MAX_JOINED_BYTES = 65_536

/** Turns replies and pushes of the Centrifugal protocol into frames, in one of its encodings. */
export class SdkEncoder implements Encoder {
  readonly name: Codec['name']
  readonly index: number
  readonly ping: Frame
  readonly #codec: Codec

  constructor (codec: Codec) {
    this.name = codec.name
    this.index = codec.index
    this.#codec = codec
    this.ping = this.frame({})
  }

  frame (reply: Reply): Frame {
    return { payload: this.#codec.encode(reply), binary: this.#codec.binary }
  }

  /** Returns no commands for what is not the protocol; the client is told. */
  decode (data: Buffer, binary: boolean): Command[] {
    try {
      return binary === this.#codec.binary ? this.#codec.decode(data) : []
    } catch {
      return [] // the codec throws for whatever is not the protocol
    }
  }

  endOf (how: CloseName | End): End {
    const { code, reason, cause } = typeof how === 'string' ? sdkCloseCodes[how] : how
    const { normal } = sdkCloseCodes
    return {
      code: code === 1000 ? normal.code : code, // SDKs take 1000 for an accident and come back
      reason: reason === '' ? 'closed by the server' : reason, // without a reason they come back whatever the code is
      cause
    }
  }

  publication (channel: string, publication: Publication): Frame {
    return this.frame({ push: { channel, pub: replyPublication(publication) } })
  }

  /** Clients limit the size of a message. */
  join (frames: readonly Frame[]): readonly Frame[] {
    const joined: Frame[] = []
    for (let from = 0; from < frames.length;) {
      const to = endOfMessage(frames, from)
      joined.push(to - from === 1
        ? frames[from]!
        : { payload: this.#codec.join(frames.slice(from, to).map(({ payload }) => payload)), binary: this.#codec.binary })
      from = to
    }
    return joined
  }

  event (channel: string, { kind, payload }: Publication): Frame {
    return this.frame({ push: { channel, [kind]: { info: clientInfo(JSON.parse(payload.toString())) } } })
  }

  message (data: unknown): Frame {
    return this.frame({ push: { message: { data: encodePayload(data) } } })
  }

  closingMessage (): undefined {}
}

/** Index of the first frame that does not fit into one message with those from `from` on. */
function endOfMessage (frames: readonly Frame[], from: number): number {
  const last = Math.min(frames.length, from + MAX_JOINED)
  let to = from + 1
  for (let size = frames[from]!.payload.length; to < last; to++) {
    size += frames[to]!.payload.length
    if (size > MAX_JOINED_BYTES) break
  }
  return to
}
