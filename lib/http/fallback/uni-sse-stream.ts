import type { FastifyReply } from 'fastify'
import { corkOf } from '../../core/client-socket.ts'
import { closeCodes } from '../../model/close-codes.ts'
import { stampOf } from '../../protocols/uni-sse/encoder.ts'
import { EventIds } from '../../protocols/uni-sse/event-ids.ts'
import type { EventStream } from '../../protocols/uni-sse/event-stream.ts'
import { refusalOfEnd } from '../../protocols/uni-sse/refusals.ts'
import type { HttpRefusal } from '../../protocols/uni-sse/refusals.ts'
import { answer } from '../answer.ts'
import { HttpStream } from './http-stream.ts'
import { writeHead } from './stream-routes.ts'

/**
 * The response of one `EventSource`. It begins when the client has its channels, so that a refusal can be an HTTP
 * status. What was recovered for the client is written as fast as the client reads it.
 */
export class UniSseStream extends HttpStream implements EventStream {
  readonly ids = new EventIds()
  readonly #reply: FastifyReply
  #begun = false
  #refusal: HttpRefusal | undefined
  /** Events that wait; undefined: none does, and they are written at once. */
  #waiting: Buffer[] | undefined = []
  #waitingBytes = 0
  #ended = false

  constructor (reply: FastifyReply) {
    super(reply.raw)
    this.#reply = reply
  }

  override get bufferedAmount (): number { return super.bufferedAmount + this.#waitingBytes }

  override send (payload: Buffer): void {
    if (this.#waiting === undefined) return this.#write(payload)
    this.#waiting.push(payload)
    this.#waitingBytes += weightOf(payload)
  }

  begin (first: Buffer): void {
    this.#begun = true
    this.#reply.hijack()
    writeHead(this.#reply, 'text/event-stream')
    super.send(first)
    this.#writeWaiting()
  }

  refuse (error: HttpRefusal): void {
    this.#refusal = error
  }

  override close (code = closeCodes.normal.code as number, reason = ''): void {
    this.#ended = true
    if (!this.#begun) answer(this.#reply, this.#refusal ?? refusalOfEnd({ code, reason }))
    else if (this.#waiting === undefined) super.close()
  }

  #writeWaiting (): void {
    const waiting = this.#waiting ?? []
    let written = 0
    while (written < waiting.length && !this._socket.writableNeedDrain) {
      const payload = waiting[written++]!
      this.#waitingBytes -= weightOf(payload)
      this.#write(payload)
    }
    if (written < waiting.length) {
      this.#waiting = waiting.slice(written)
      this._socket.once('drain', () => this.#writeWaiting())
      return
    }
    this.#waiting = undefined
    if (this.#ended) super.close()
  }

  /** An event has the id of a client with one channel. Another id takes its place where there are more. */
  #write (payload: Buffer): void {
    const stamp = this.ids.advance(payload)
    if (stamp === undefined) return super.send(payload)
    const held = corkOf(this._socket)
    held.cork()
    super.send(payload.subarray(0, payload.length - stamp.tail))
    super.send(Buffer.from(`${this.ids.line}\n`))
    held.uncork()
  }
}

function weightOf (payload: Buffer): number {
  return stampOf(payload)?.weight ?? payload.length
}
