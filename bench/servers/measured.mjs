import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from '../answer.mjs'

/** ms between two collections, and how many there are at the most until memory stays as it is. */
const COLLECT_INTERVAL = 100
const COLLECTIONS = 15
/** Two readings of resident memory count as the same if they differ by less. */
const SAME_BYTES = 65_536

/** Whether a connection publishes; all others are subscribed. */
export const isPublisher = url => url.includes('role=publisher')

/** What a plain client is told when it is subscribed. */
export const READY = 'ready'

let refusals = 0

/** For a publication that failed: its publisher knows, so that it is not lost in silence. */
export function refused () {
  refusals++
}

/** Starts an HTTP server on a free port and tells the benchmark what it costs. */
export async function measured (server) {
  if (!server.listening) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  }
  answer({
    port: () => server.address().port,
    connections: () => new Promise((resolve, reject) => server.getConnections((error, count) => error ? reject(error) : resolve(count))),
    /** `cpu`: us of user and system time, all threads. */
    figures: () => {
      const { user, system } = process.cpuUsage()
      return { cpu: user + system, refused: refusals }
    },
    memory
  })
}

/** Bytes after garbage collection. */
async function memory () {
  let last = Infinity
  for (let i = 0; i < COLLECTIONS; i++) {
    globalThis.gc()
    await wait(COLLECT_INTERVAL)
    const { rss } = process.memoryUsage()
    if (last - rss < SAME_BYTES) break
    last = rss
  }
  const { rss, heapUsed } = process.memoryUsage()
  return { rss, heap: heapUsed }
}
