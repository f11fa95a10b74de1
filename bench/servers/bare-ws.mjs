// The floor: nothing but `ws`. A publication is framed once, and what arrives in one turn is one write per socket.
import { createServer } from 'node:http'
import { Sender, WebSocketServer } from 'ws'
import { channelsIn, isPublisher, measured, READY } from './measured.mjs'
import { Rooms } from './rooms.mjs'

const TEXT = { opcode: 1, fin: true, rsv1: false, mask: false, readOnly: true }

const pending = new Map()
const rooms = await Rooms.open((members, bytes) => {
  if (pending.size === 0) setImmediate(flush)
  const frames = pending.get(members)
  if (frames === undefined) pending.set(members, Sender.frame(bytes, TEXT))
  else frames.push(...Sender.frame(bytes, TEXT))
}, { bytes: true })

function flush () {
  for (const [members, frames] of pending) {
    const bytes = Buffer.concat(frames)
    for (const socket of members) socket.write(bytes)
  }
  pending.clear()
}

const server = createServer()
const sockets = new WebSocketServer({ server })
sockets.on('connection', async (webSocket, { url, socket }) => {
  webSocket.on('message', data => rooms.publish(data))
  webSocket.on('error', console.error)
  if (!isPublisher(url)) {
    const channels = channelsIn(url)
    webSocket.on('close', () => channels.forEach(channel => rooms.leave(channel, socket)))
    await Promise.all(channels.map(channel => rooms.join(channel, socket)))
  }
  webSocket.send(READY)
})
await measured(server)
