// What hostile.mjs attacks: all limits as by default, and handlers that never end for who asks for them.
import Fastify from 'fastify'
import { measured } from './measured.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

const never = () => new Promise(() => {})

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  memoryLimit: 1_073_741_824,
  telemetry: false,
  logging: false,
  shutdown: false,
  channels: { chat: { subscribe: true, publish: true, presence: true, history: { size: 100, ttl: '10m' } } },
  authenticate: ({ url }) => url.includes('authenticate=never') ? never() : { user: 'somebody' },
  onConnect: (connection, { url }) => { if (url.includes('subscribe')) return connection.subscribe('chat:members') },
  onMessage: (connection, data) => String(data).startsWith('never') ? never() : undefined,
  onRpc: never
})
await app.listen({ port: 0, host: '127.0.0.1' })
// A history as a chat with pictures has it.
for (let i = 0; i < 100; i++) await app.realtime.publish('chat:large', 'x'.repeat(60_000))
await measured(app.server)
