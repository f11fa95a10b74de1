// Rooms by hand, as one writes them first: a Set of sockets, and Redis Pub/Sub between the instances.
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { channelsIn, isPublisher, measured, READY } from './measured.mjs'
import { Rooms } from './rooms.mjs'

const rooms = await Rooms.open((members, text) => {
  for (const socket of members) socket.send(text)
})

const app = Fastify()
await app.register(websocket)
app.get('/ws', { websocket: true }, async (socket, request) => {
  socket.on('message', data => rooms.publish(data.toString()))
  if (!isPublisher(request.url)) {
    const channels = channelsIn(request.url)
    socket.on('close', () => channels.forEach(channel => rooms.leave(channel, socket)))
    await Promise.all(channels.map(channel => rooms.join(channel, socket)))
  }
  socket.send(READY)
})
await app.listen({ port: 0, host: '127.0.0.1' })
await measured(app.server)
