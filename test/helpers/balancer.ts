import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'

export interface Balancer {
  /** ws://127.0.0.1:port */
  url: string
  /** New connections go to these in turn. Connections that exist stay where they are. */
  targets: string[]
  /** Cuts every connection, as a network does. */
  cut (): void
}

/** A TCP load balancer. It skips a target that does not answer. */
export async function startBalancer (t: Test, targets: string[]): Promise<Balancer> {
  const sockets = new Set<Socket>()
  let turn = 0
  const track = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => sockets.delete(socket))
  }
  const forward = (client: Socket, tries: number) => {
    const target = balancer.targets[turn++ % balancer.targets.length]
    if (target === undefined || tries === 0) return client.destroy()
    const { hostname, port } = new URL(target)
    const server = connect(Number(port), hostname)
    track(server)
    const next = () => forward(client, tries - 1)
    server.once('error', next)
    server.once('connect', () => {
      server.off('error', next)
      client.pipe(server).pipe(client)
      client.on('close', () => server.destroy())
      server.on('close', () => client.destroy())
    })
  }
  const listener = createServer(client => {
    track(client)
    forward(client, balancer.targets.length)
  })
  const balancer: Balancer = { url: '', targets, cut: () => sockets.forEach(socket => socket.destroy()) }
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.teardown(() => {
    listener.close()
    balancer.cut()
  })
  balancer.url = `ws://127.0.0.1:${(listener.address() as AddressInfo).port}`
  return balancer
}
