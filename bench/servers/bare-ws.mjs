// The floor: nothing but `ws`. A publication is framed once, and what arrives in one turn is one write per socket.
import { createServer } from 'node:http'
import { Sender, WebSocketServer } from 'ws'
import { isPublisher, measured, READY, refused } from './measured.mjs'
import { connectRedis } from './redis-pubsub.mjs'

const TEXT = { opcode: 1, fin: true, rsv1: false, mask: false, readOnly: true }

const { publisher, subscriber } = await connectRedis()
const room = new Set()
let frames = []
await subscriber.subscribe('room', bytes => {
  if (frames.length === 0) setImmediate(flush)
  frames.push(...Sender.frame(bytes, TEXT))
}, true)

function flush () {
  const bytes = Buffer.concat(frames)
  frames = []
  for (const socket of room) socket.write(bytes)
}

const server = createServer()
const sockets = new WebSocketServer({ server })
sockets.on('connection', (webSocket, { url, socket }) => {
  webSocket.on('message', data => { publisher.publish('room', data).catch(refused) })
  webSocket.on('error', console.error)
  webSocket.send(READY)
  if (isPublisher(url)) return
  room.add(socket)
  webSocket.on('close', () => room.delete(socket))
})
await measured(server)
