// Rooms by hand, as one writes them first: a Set of sockets, and Redis Pub/Sub between the instances.
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { isPublisher, measured, READY, refused } from './measured.mjs'
import { connectRedis } from './redis-pubsub.mjs'

const { publisher, subscriber } = await connectRedis()
const room = new Set()
await subscriber.subscribe('room', text => {
  for (const socket of room) socket.send(text)
})

const app = Fastify()
await app.register(websocket)
app.get('/ws', { websocket: true }, (socket, request) => {
  socket.on('message', data => { publisher.publish('room', data.toString()).catch(refused) })
  if (!isPublisher(request.url)) {
    room.add(socket)
    socket.on('close', () => room.delete(socket))
  }
  socket.send(READY)
})
await app.listen({ port: 0, host: '127.0.0.1' })
await measured(app.server)
