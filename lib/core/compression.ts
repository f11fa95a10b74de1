import { constants, deflateRawSync } from 'node:zlib'
import type { ChannelRules } from '../model/channel-rules.ts'
import type { Batch, Frame } from '../model/encoder.ts'
import type { Compression as Settings } from '../options/compression-options.ts'
import { serverWindowBits } from './client-socket.ts'
import type { ClientSocket } from './client-socket.ts'

/** The smallest window of zlib. What it makes of it fits into 8 bits, too: it keeps 262 bytes of it free. */
const MIN_WINDOW_BITS = 9
/** Bytes of the empty block at the end of a message, which is not sent (RFC 7692, section 7.2.1). */
const TAIL = 4
/** Longer messages are compressed fast: nothing else runs meanwhile. */
const LONG = 65_536
const FAST = 1

/** Compresses messages, each by itself, so that the same bytes suit every client whose window is as large. */
export class Deflate {
  readonly #settings: Settings
  readonly #windowBits: number
  /** What became of a frame: subscriptions with different filters have batches of their own, of the same frames. */
  readonly #known = new WeakMap<Frame, Frame>()
  /** True if messages to one client alone are compressed. */
  readonly forOne: boolean

  constructor (settings: Settings, windowBits: number, forOne: boolean) {
    this.#settings = settings
    this.#windowBits = windowBits
    this.forOne = forOne
  }

  /** The batch for clients with this window: compressed by the first of them. */
  batch (batch: Batch): Batch {
    if (!batch.compressible) return batch
    batch.deflated ??= new Map()
    let own = batch.deflated.get(this)
    if (own === undefined) batch.deflated.set(this, own = this.#deflated(batch))
    return own
  }

  #deflated (batch: Batch): Batch {
    const frames = batch.frames.map(frame => this.#known.get(frame) ?? this.#frame(frame))
    return frames.some(({ deflated }) => deflated) ? { frames, bytes: undefined, payloadBytes: 0, compressible: false } : batch
  }

  /** Leaves a frame as it is where it would not get smaller. */
  #frame (frame: Frame): Frame {
    const { payload, binary } = frame
    const { minBytes, level, memLevel } = this.#settings
    if (payload.length < minBytes) return frame
    const deflated = deflateRawSync(payload, {
      level: payload.length > LONG ? FAST : level, memLevel, windowBits: this.#windowBits, finishFlush: constants.Z_SYNC_FLUSH
    }).subarray(0, -TAIL)
    const smallest: Frame = deflated.length < payload.length ? { payload: deflated, binary, deflated: true } : frame
    this.#known.set(frame, smallest)
    return smallest
  }
}

/** Compresses for the clients of one app. It keeps no state of zlib, neither for a client nor between messages. */
export class Compression {
  readonly #settings: Settings
  readonly #forOne: boolean
  readonly #byWindow = new Map<number, Deflate>()

  constructor (settings: Settings, channels: ReadonlyMap<string, ChannelRules>) {
    this.#settings = settings
    // A reply may carry publications of any channel.
    this.#forOne = Array.from(channels.values()).every(({ compression }) => compression)
  }

  /** What compresses for this client; undefined if it has not negotiated it. */
  of (socket: ClientSocket): Deflate | undefined {
    const negotiated = serverWindowBits(socket)
    if (negotiated === undefined) return undefined
    const bits = Math.max(MIN_WINDOW_BITS, negotiated)
    let deflate = this.#byWindow.get(bits)
    if (deflate === undefined) this.#byWindow.set(bits, deflate = new Deflate(this.#settings, bits, this.#forOne))
    return deflate
  }
}
