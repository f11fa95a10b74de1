import type { WebSocket } from 'ws'
import type { Availability } from '../lifecycle/availability.ts'
import type { End } from '../model/close-codes.ts'

/** Milliseconds that a refused client has to answer the close frame. */
const CLOSE_TIMEOUT = 2_000
/** Messages and control frames that it may send meanwhile: an SDK sends its first commands as soon as it is open. */
const MAX_FRAMES = 16

/**
 * Closes the socket of a client that was refused with a close code, which a browser can read, in place of an HTTP
 * status. It is no connection, but holds a place until it is closed. What the client sends is discarded, and a client
 * that does not answer is cut.
 */
export function closeRefused (socket: WebSocket, { code, reason }: End, availability: Availability): void {
  availability.closing++
  const timer = setTimeout(() => socket.terminate(), CLOSE_TIMEOUT).unref()
  let frames = 0
  const discard = () => {
    if (++frames > MAX_FRAMES) socket.terminate()
  }
  socket.removeAllListeners('error').on('error', () => {}) // @fastify/websocket's would log a client's mistake as an error
  socket.on('message', discard).on('ping', discard).on('pong', discard).once('close', () => {
    clearTimeout(timer)
    availability.closing--
  })
  socket.close(code, reason)
}
