// An instance as a service has it: everything as by default, one namespace with history.
// The plugin drains at SIGTERM by itself.
import Fastify from 'fastify'
import { swapped } from './swapped.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  ...(process.env.BENCH_FALLBACK && { fallback: true }),
  channels: { room: { subscribe: true, history: { size: 5_000, ttl: '5m' } } }
})
await app.listen({ port: 0, host: '127.0.0.1' })
swapped(app.server, data => app.realtime.publish('room:1', data))
