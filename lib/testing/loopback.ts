import type { Server } from 'node:http'
import { Duplex } from 'node:stream'
import { setImmediate } from 'node:timers'
import { Server as TlsServer } from 'node:tls'

/** An app to test: any Fastify instance. It need not listen. */
export interface TestedApp {
  readonly server: { emit (event: string, ...values: any[]): boolean }
  ready (): PromiseLike<unknown>
}

/**
 * Connects to an app without a port, and returns the client's end. The app's own HTTP server reads the other end, so
 * everything but the network is real: the parser, the upgrade, the handshake, backpressure, a peer that goes away.
 */
export function connectTo (app: TestedApp): Duplex {
  const [client, server] = LoopbackSocket.pair()
  // In a turn of its own: whoever called has no listeners on the client's end yet.
  setImmediate(() => app.ready().then(() => {
    app.server.emit(app.server as object as Server instanceof TlsServer ? 'secureConnection' : 'connection', server)
  }, (error: Error) => client.destroy(error)))
  return client
}

/** One end of a connection. What is written to it can be read at the other, a turn of the event loop later. */
class LoopbackSocket extends Duplex {
  readonly remoteAddress = '127.0.0.1'
  readonly remoteFamily = 'IPv4'
  #peer: LoopbackSocket = this
  /** Called when the reader has room again: a write of the peer's waits for it. */
  #hasRoom = () => {}

  static pair (): [LoopbackSocket, LoopbackSocket] {
    const [a, b] = [new LoopbackSocket({ allowHalfOpen: false }), new LoopbackSocket({ allowHalfOpen: false })]
    a.#peer = b
    b.#peer = a
    return [a, b]
  }

  override _read (): void {
    const hasRoom = this.#hasRoom
    this.#hasRoom = () => {}
    hasRoom()
  }

  override _write (chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    setImmediate(() => {
      const peer = this.#peer
      if (peer.destroyed || peer.push(chunk)) done()
      else peer.#hasRoom = done
    })
  }

  override _writev (chunks: Array<{ chunk: Buffer }>, done: () => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'binary', done)
  }

  override _final (done: () => void): void {
    setImmediate(() => this.#peer.#end())
    done()
  }

  /** The peer reads what had arrived, and then finds the end. */
  override _destroy (error: Error | null, done: (error: Error | null) => void): void {
    this._read()
    setImmediate(() => this.#peer.#end())
    done(error)
  }

  #end (): void {
    if (!this.destroyed && !this.readableEnded) this.push(null)
  }
}
