import Fastify from 'fastify'
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from '../answer.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

/** ms for what was closed to be gone. */
const SETTLE = 1_000

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  rateLimit: false,
  telemetry: false,
  shutdown: { signals: false, timeout: 2_000 },
  channels: { '': { subscribe: true, presence: true, history: { size: 10_000, ttl: '10m' } } }
})
await app.listen({ port: 0, host: '127.0.0.1' })

answer({
  port: () => app.server.address().port,
  publish: (channel, data) => app.realtime.publish(channel, data),
  close: () => app.close(),
  /** Bytes after garbage collection, and what keeps the process alive, by kind. */
  async left () {
    await wait(SETTLE)
    globalThis.gc()
    const { rss, heapUsed } = process.memoryUsage()
    const handles = process.getActiveResourcesInfo().filter(name => !['Timeout', 'Immediate'].includes(name)).length
    return { rss, heap: heapUsed, handles, connections: Array.from(app.realtime.connections).length }
  }
})
