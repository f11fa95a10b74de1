import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Cuts off clients that send requests behind a stream in its socket, as neither browsers nor proxies do. Node.js reads
 * 64 KiB of them at a time: some thousand requests, which take megabytes until the stream ends. HTTP/2 has streams.
 */
export class Pipelining {
  /** The last request that came in a socket. */
  readonly #latest = new WeakMap<Socket, IncomingMessage>()
  readonly #streaming = new WeakSet<Socket>()

  constructor ({ server }: FastifyInstance) {
    server.prependListener('request', (request: IncomingMessage) => { // before Fastify may open a stream
      const { socket, httpVersionMajor } = request
      if (httpVersionMajor !== 1) return
      if (this.#streaming.has(socket)) socket.destroy()
      else this.#latest.set(socket, request)
    })
  }

  /** Returns false if other requests have come behind this one, which asks for a stream. */
  begin ({ raw }: FastifyRequest, reply: FastifyReply): boolean {
    const { socket } = raw
    const latest = this.#latest.get(socket) // none over HTTP/2, or where a test injects requests
    if (latest === undefined) return true
    if (latest !== raw) {
      reply.hijack()
      socket.destroy()
      return false
    }
    this.#streaming.add(socket)
    reply.raw.once('close', () => this.#streaming.delete(socket))
    return true
  }
}
