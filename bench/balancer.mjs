import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** A TCP load balancer of the benchmark's own: connections go to the targets in turn and stay where they are. */
export class Balancer {
  /** Ports that get new connections. One that does not take them is passed over. */
  targets = []
  #server = createServer(client => this.#forward(client, this.targets.length))
  #turn = 0
  #open = new Map()

  async start () {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this.#server.address().port
  }

  /** Connections to one target. */
  open (port) {
    return this.#open.get(port)?.size ?? 0
  }

  stop () {
    this.#server.close()
    for (const sockets of this.#open.values()) for (const socket of sockets) socket.destroy()
  }

  #forward (client, tries) {
    client.on('error', () => {}) // its end is all that counts
    const port = this.targets[this.#turn++ % this.targets.length]
    if (port === undefined || tries === 0) return client.destroy()
    const server = connect({ port, host: '127.0.0.1', noDelay: true })
    const next = () => this.#forward(client, tries - 1)
    server.once('error', next)
    server.once('connect', () => {
      server.off('error', next)
      server.on('error', () => {})
      const sockets = this.#open.get(port) ?? new Set()
      this.#open.set(port, sockets.add(server))
      client.setNoDelay(true)
      client.pipe(server).pipe(client)
      client.on('close', () => server.destroy())
      server.on('close', () => {
        sockets.delete(server)
        client.destroy()
      })
    })
  }
}
