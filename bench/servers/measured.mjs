import { once } from 'node:events'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from '../answer.mjs'
import { channelName } from '../message.mjs'

export { channelOf } from '../message.mjs'

/** ms between two collections, and how many there are at the most until memory stays as it is. */
const COLLECT_INTERVAL = 100
const COLLECTIONS = 15
/** Two readings of resident memory count as the same if they differ by less. */
const SAME_BYTES = 65_536
/** ms between two looks at the event loop, and at memory. */
const DELAY_RESOLUTION = 1
const MEMORY_INTERVAL = 50

export const FIRST_CHANNEL = channelName(0)

/** Whether a connection publishes; all others are subscribed. */
export const isPublisher = url => url.includes('role=publisher')

/** Names of the channels that a client asks for in its URL. */
export const channelsIn = url => /channels=([^&]*)/.exec(url)?.[1].split(',') ?? []

/** What a plain client is told when it is subscribed. */
export const READY = 'ready'

let refusals = 0

/** For a publication that failed: its publisher knows, so that it is not lost in silence. */
export function refused () {
  refusals++
}

/** Starts an HTTP server on a free port and tells the benchmark what it costs. It answers calls of `more`, too. */
export async function measured (server, more = {}) {
  if (!server.listening) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  }
  tell({
    port: () => server.address().port,
    connections: () => new Promise((resolve, reject) => server.getConnections((error, count) => error ? reject(error) : resolve(count)))
  }, more)
}

/** The same for a server that is none of Node's: `port` and `connections` are its own. */
export function tell ({ port, connections }, more = {}) {
  answer({
    ...more,
    port,
    connections,
    /** `cpu`: us of user and system time, all threads. */
    figures: () => {
      const { user, system } = process.cpuUsage()
      return { cpu: user + system, refused: refusals, rss: process.memoryUsage.rss() }
    },
    memory,
    watch,
    seen
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

let delay
let peak = 0

/** From now on looks at the event loop and at memory; `seen` tells, and goes on. */
function watch () {
  peak = process.memoryUsage.rss()
  if (delay !== undefined) return delay.reset()
  delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION })
  delay.enable()
  setInterval(() => { peak = Math.max(peak, process.memoryUsage.rss()) }, MEMORY_INTERVAL)
}

/** `delay`: ms of one turn of the event loop, which is 1 if it has nothing to do. `peak`: bytes of resident memory. */
function seen () {
  const ms = nanoseconds => nanoseconds / 1e6
  return { delay: { p50: ms(delay.percentile(50)), p99: ms(delay.percentile(99)), max: ms(delay.max) }, peak }
}
