import { createAdapter } from '@socket.io/redis-adapter'
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { channelOf, channelsIn, isPublisher, measured } from './measured.mjs'
import { connectRedis } from './redis-pubsub.mjs'

const { publisher, subscriber } = await connectRedis()
const server = createServer()
const io = new Server(server, { adapter: createAdapter(publisher, subscriber), transports: ['websocket'], serveClient: false })
io.on('connection', socket => {
  const { url } = socket.request
  if (!isPublisher(url)) socket.join(channelsIn(url))
  socket.on('m', data => { io.to(channelOf(data)).emit('m', data) })
})
await measured(server)
