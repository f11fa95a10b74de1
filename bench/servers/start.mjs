// What cold-start.mjs starts: BENCH_START says what. Ready as soon as /ready answers 200.
import Fastify from 'fastify'

const kind = process.env.BENCH_START
const app = Fastify({ logger: true })
if (kind === 'bare') {
  const [{ default: websocket }, { createClient }] = await Promise.all([import('@fastify/websocket'), import('redis')])
  const publisher = createClient({ url: process.env.REDIS_URL })
  publisher.on('error', console.error)
  const subscriber = publisher.duplicate()
  subscriber.on('error', console.error)
  await Promise.all([publisher.connect(), subscriber.connect()])
  await app.register(websocket)
  app.get('/ws', { websocket: true }, socket => { socket.on('message', data => publisher.publish('room', data.toString())) })
  app.get('/ready', async () => ({ status: 'ready' }))
} else {
  const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)
  const observed = kind === 'observed' ? 'auto' : false
  await app.register(cloudRunWebSocket, { redis: process.env.REDIS_URL, telemetry: observed, logging: observed })
}
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send((user + system) / 1_000)
})
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
