import type { EventEmitter } from 'node:events'
import type { Writable } from 'node:stream'
import type { WebSocket } from 'ws'

/**
 * What carries one connection: a WebSocket, or what stands in for one where those are blocked. Its events are those of
 * `ws`: 'message', 'ping', 'pong', 'error' and 'close'.
 */
export interface ClientSocket extends EventEmitter, Pick<WebSocket,
  'readyState' | 'bufferedAmount' | 'isPaused' | 'close' | 'terminate' | 'ping' | 'pause' | 'resume'> {
  /** Sends one message. */
  send (payload: Buffer, options: { binary: boolean }): void
}

/** `readyState` of a socket (RFC 6455 has no names for states; these are the browser's). */
export const OPEN = 1
export const CLOSING = 2
export const CLOSED = 3

/** Where the bytes of a connection are written: a socket, or a response. */
export type Output = Pick<Writable, 'write' | 'cork' | 'uncork' | 'once' | 'writableLength' | 'writableNeedDrain'>

/** The output under a client's socket. `ws` keeps the TCP or TLS socket there. */
export function outputOf (socket: ClientSocket): Output {
  return (socket as unknown as { _socket: Output })._socket
}

/**
 * What holds back what is written to this output: of a response the socket. A response of Node.js 22 that is corked
 * itself writes its end before what it holds, and may never say that it has drained.
 */
export function corkOf (output: Output): Pick<Output, 'cork' | 'uncork'> {
  return (output as { socket?: Output | null }).socket ?? output
}

/** Bits of a window that no client has limited (RFC 7692, section 7.1.2.1). */
const MAX_WINDOW_BITS = 15

/** Bits of the window in which this client inflates; undefined if it takes no compressed messages. */
export function serverWindowBits (socket: ClientSocket): number | undefined {
  const { _extensions } = socket as { _extensions?: { 'permessage-deflate'?: { params?: { server_max_window_bits?: number } } } }
  const params = _extensions?.['permessage-deflate']?.params
  return params && (params.server_max_window_bits ?? MAX_WINDOW_BITS)
}

/** True if the socket is a WebSocket that does not compress: its batches can be framed once for all of them. */
export function takesFrames (socket: ClientSocket): boolean {
  return (socket as unknown as Partial<WebSocket>).extensions === ''
}
