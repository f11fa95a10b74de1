// An instance of Socket.IO with one of its Redis adapters, written as its documentation says.
import { createAdapter } from '@socket.io/redis-adapter'
import { createAdapter as createStreamsAdapter } from '@socket.io/redis-streams-adapter'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { connectRedis } from './redis-pubsub.mjs'
import { swapped } from './swapped.mjs'

/** ms that a shutdown may take; Cloud Run gives ten seconds. */
const SHUTDOWN_TIMEOUT = 9_000

const { publisher, subscriber } = await connectRedis()
const adapter = process.env.BENCH_ADAPTER === 'streams'
  ? { adapter: createStreamsAdapter(publisher), connectionStateRecovery: {} }
  : { adapter: createAdapter(publisher, subscriber) }
const server = createServer()
const io = new Server(server, { ...adapter, transports: ['websocket'], serveClient: false })
io.on('connection', socket => {
  if (!socket.recovered) socket.join('room')
})
process.once('SIGTERM', async () => {
  setTimeout(() => process.exit(), SHUTDOWN_TIMEOUT)
  await io.close()
  await publisher.close() // after what it still has to write: the sessions of those who were here
  process.exit()
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
swapped(server, async data => { io.to('room').emit('m', data) })
