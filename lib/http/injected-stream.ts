import { Socket } from 'node:net'
import { finished } from 'node:stream'
import type { Duplex } from 'node:stream'

/**
 * Completes the stream of `injectWS` where an older stream library (readable-stream 3 with duplexify) falls short of a
 * socket: what a connection reads to hold writes back, and an end. A real socket is left as it is.
 */
export function completeInjectedStream (stream: Duplex): void {
  if (stream instanceof Socket || stream.writableNeedDrain !== undefined) return
  Object.defineProperties(stream, injectedProperties)
  // A socket closes once both sides have ended. Such a stream stays open, and `ws` would wait for its timeout.
  finished(stream, () => { stream.destroy() })
}

/** State that such a stream has under other names. */
interface InjectedStream extends Duplex {
  readonly _writableState: { readonly needDrain: boolean }
}

const injectedProperties: PropertyDescriptorMap = {
  writableNeedDrain: { get (this: InjectedStream) { return this._writableState.needDrain } }
}
