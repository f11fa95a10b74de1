import { Server } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Sockets on which nothing has come yet. `fetch` opens a spare one when a stream ends, and browsers open some in
 * advance. When Node.js closes its server it waits for each of them as long as for a slow request: about a minute.
 */
export class UnusedSockets {
  readonly #sockets = new Set<Socket>()

  /** Only a server of HTTP/1.1 without TLS waits for them, and knows how much has come on a socket. */
  constructor (server: object) {
    if (!(server instanceof Server)) return
    const sockets = this.#sockets
    const forget = function (this: Socket) { sockets.delete(this) }
    server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', forget)
    })
    server.on('request', ({ socket }) => { sockets.delete(socket) })
  }

  /** WebSockets are still among those that it knows, and refused upgrades: something has come on them. */
  destroy (): void {
    for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy()
  }
}
