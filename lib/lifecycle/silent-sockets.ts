import type { Server, Socket } from 'node:net'

/**
 * Sockets in which nothing has come. Browsers and HTTP clients open some ahead of need. To Node.js a request is under
 * way in each, so that `server.close` waits for a minute, or for as long as the client likes.
 */
export class SilentSockets {
  readonly #sockets = new Set<Socket>()

  constructor (server: Server) {
    const sockets = this.#sockets
    function remove (this: Socket): void { sockets.delete(this) }
    const add = (socket: Socket) => { sockets.add(socket.on('close', remove)) }
    // In the socket under TLS the handshake comes. It is the one above it that is silent.
    server.on('connection', add).on('secureConnection', add)
  }

  /** Closes them. Whoever sends a request from now on would be refused all the same. */
  close (): void {
    for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy()
  }
}
