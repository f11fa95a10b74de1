import Fastify from 'fastify'
import { isPublisher, measured, READY, refused } from './measured.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  rateLimit: false,
  maxConnections: 100_000,
  shutdown: false,
  channels: process.env.BENCH_HISTORY ? { '': { history: { size: 1_000, ttl: '1m' } } } : {},
  async onConnect (connection, request) {
    if (!isPublisher(request.url)) await connection.subscribe('room')
    connection.send(READY)
  },
  onMessage (connection, data) {
    // Not awaited, as with the peers; the order is kept all the same.
    app.realtime.publish('room', data).catch(refused)
  }
})
await app.listen({ port: 0, host: '127.0.0.1' })
await measured(app.server)
