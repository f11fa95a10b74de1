import { createServer } from 'node:net'

/**
 * A port below 32768, where no system takes ports for outgoing connections: it stays free while its server is down. The
 * port + 10000 is free too: a node of a Redis Cluster listens there.
 */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 12_000)
    if (await isFree(port) && await isFree(port + 10_000)) return port
  }
}

function isFree (port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
