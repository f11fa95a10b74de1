import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { CLOSED, CLOSING, OPEN } from '../../core/client-socket.ts'
import type { ClientSocket, Output } from '../../core/client-socket.ts'
import { writableOf } from '../writable-of.ts'

/** Close code of a peer that gave none (RFC 6455, section 7.4.1). A client ends a response by going away. */
const NO_STATUS = 1005

/**
 * An HTTP response that stays open, in place of a WebSocket: what is sent is a piece of its body, and what the client
 * sends comes in requests of its own, by `receive`.
 */
export class HttpStream extends EventEmitter implements ClientSocket {
  readyState: ClientSocket['readyState'] = OPEN
  isPaused = false
  /** True if the client was told of the end, in the last message. */
  told = false
  readonly _socket: Output
  /** The response, or the stream of HTTP/2 under it, whose response lacks some of what a connection reads. */
  readonly #output: ServerResponse | Duplex
  #resumed: Promise<void> | undefined
  #resume = () => {}

  /** The head of the response has been written. */
  constructor (response: ServerResponse) {
    super()
    this.#output = this._socket = writableOf(response)
    this.#output.once('close', () => {
      this.readyState = CLOSED
      this.resume() // a post that waits is answered
      this.emit('close', NO_STATUS, Buffer.alloc(0))
    })
    this.#output.on('error', () => this.#output.destroy()) // the client has gone; 'close' follows
  }

  get open (): boolean { return this.readyState === OPEN }

  get bufferedAmount (): number { return this.#output.writableLength }

  send (payload: Buffer): void {
    this.#output.write(payload)
  }

  /** The protocol has told the client the code and the reason in its last message. */
  close (): void {
    if (this.readyState !== OPEN) return
    this.readyState = CLOSING
    this.told = true
    this.#output.end()
  }

  terminate (): void {
    this.#output.destroy()
  }

  /** HTTP has no pings. */
  ping (): void {}

  pause (): void {
    if (this.isPaused || this.readyState !== OPEN) return
    this.isPaused = true
    this.#resumed = new Promise(resolve => { this.#resume = resolve })
  }

  resume (): void {
    this.isPaused = false
    this.#resume()
  }

  /** Hands over what the client has sent in a request of its own, when earlier messages leave room for it. */
  async receive (data: Buffer, binary: boolean): Promise<void> {
    while (this.isPaused) await this.#resumed
    if (this.readyState !== CLOSED) this.emit('message', data, binary)
  }
}
