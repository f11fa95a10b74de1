import { closeCodes, reconnectsAfter, sdkCloseCodes } from '../../model/close-codes.ts'
import type { CloseName, End } from '../../model/close-codes.ts'
import type { TransportName } from '../../model/connection.ts'
import type { Encoder, Frame, PublicationEncoder } from '../../model/encoder.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Publication } from '../../model/publication.ts'
import type { Codec } from './codec.ts'
import { eventPush, replyPublication } from './replies.ts'
import type { Command, Reply, ReplyPublication } from './schema.ts'

/** Publications in one WebSocket message, as many as Centrifugo joins. */
const MAX_JOINED = 16
/** Bytes of publications in one WebSocket message, unless a single one has more: clients limit its size. */
const MAX_JOINED_BYTES = 65_536

/** An encoder to which another one, such as that of deltas, hands the publications that it has made. */
export interface PushEncoder extends PublicationEncoder {
  readonly name: Codec['name']
  /** The message that carries this publication of the protocol. */
  push (channel: string, pub: ReplyPublication): Frame
  join (frames: readonly Frame[]): readonly Frame[]
}

/** Turns replies and pushes into frames, and frames into commands, in one encoding. */
export class SdkEncoder implements Encoder, PushEncoder {
  readonly name: Codec['name']
  readonly transport: TransportName
  /** An empty reply [Ping Pong]. */
  readonly ping: Frame
  readonly #codec: Codec

  constructor (codec: Codec, transport: TransportName = 'websocket') {
    this.name = codec.name
    this.transport = transport
    this.#codec = codec
    this.ping = this.frame({})
  }

  frame (reply: Reply): Frame {
    return { payload: this.#codec.encode(reply), binary: this.#codec.binary }
  }

  /** Returns an empty list for a frame that is not one of the protocol: the client is told by the close code. */
  decode (data: Buffer, binary: boolean): Command[] {
    try {
      return binary === this.#codec.binary ? this.#codec.decode(data) : []
    } catch {
      return []
    }
  }

  endOf (how: CloseName | End): End {
    const { code, reason, cause, detail }: End = typeof how === 'string' ? sdkCloseCodes[how] : how
    return {
      code: code === closeCodes.normal.code ? sdkCloseCodes.normal.code : code, // SDKs treat 1000 as an unexpected close and connect again
      reason: reason === '' ? closeCodes.normal.reason : reason, // without a reason they connect again after any code
      cause,
      ...(detail !== undefined && { detail })
    }
  }

  publication (channel: string, publication: Publication): Frame {
    return this.push(channel, replyPublication(publication))
  }

  push (channel: string, pub: ReplyPublication): Frame {
    return this.frame({ push: { channel, pub } })
  }

  /** Joins publications into as few WebSocket messages as clients take [Top level batching]. */
  join (frames: readonly Frame[]): readonly Frame[] {
    const joined: Frame[] = []
    for (let from = 0; from < frames.length;) {
      const to = endOfMessage(frames, from)
      joined.push(to - from === 1 ? frames[from]! : this.#joined(frames.slice(from, to)))
      from = to
    }
    return joined
  }

  event (channel: string, event: Publication): Frame {
    return this.frame({ push: { channel, ...eventPush(event) } })
  }

  message (data: unknown): Frame {
    return this.frame({ push: { message: { data: encodePayload(data) } } })
  }

  /** On a WebSocket the close frame tells what this push tells elsewhere [Disconnect]. */
  closingMessage ({ code, reason }: End): Frame | undefined {
    if (this.transport === 'websocket') return undefined
    return this.frame({ push: { disconnect: { code, reason, reconnect: reconnectsAfter(code) } } })
  }

  #joined (frames: readonly Frame[]): Frame {
    return { payload: this.#codec.join(frames.map(({ payload }) => payload)), binary: this.#codec.binary }
  }
}

/** Returns the index after the last frame that fits into one message with the one at `from`. */
function endOfMessage (frames: readonly Frame[], from: number): number {
  const last = Math.min(frames.length, from + MAX_JOINED)
  let to = from + 1
  for (let size = frames[from]!.payload.length; to < last; to++) {
    size += frames[to]!.payload.length
    if (size > MAX_JOINED_BYTES) break
  }
  return to
}
