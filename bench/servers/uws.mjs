// uWebSockets.js as its documentation shows it, with its own topics. They write at once what was published in one turn
// of the event loop.
import { loadUws } from '../peers.mjs'
import { channelOf, channelsIn, isPublisher, READY, refused, tell } from './measured.mjs'
import { connectRedis } from './redis-pubsub.mjs'

/**
 * Bytes that a client may owe before it is closed, as many as with this plugin. The default is 64 KB, over which
 * messages are dropped.
 */
const MAX_BACKPRESSURE = 1_048_576

const uws = loadUws()
const { publisher, subscriber } = await connectRedis()
const subscribed = new Map()
let connections = 0

const app = uws.App().ws('/ws', {
  maxBackpressure: MAX_BACKPRESSURE,
  closeOnBackpressureLimit: 1,
  upgrade (response, request, context) {
    const [key, protocol, extensions] = ['key', 'protocol', 'extensions'].map(name => request.getHeader(`sec-websocket-${name}`))
    response.upgrade({ url: request.getQuery() }, key, protocol, extensions, context)
  },
  async open (socket) {
    connections++
    const user = socket.getUserData()
    const channels = isPublisher(user.url) ? [] : channelsIn(user.url)
    for (const channel of channels) socket.subscribe(channel)
    await Promise.all(channels.map(subscribe))
    if (!user.closed) socket.send(READY)
  },
  message (socket, data) {
    const text = Buffer.from(data).toString()
    publisher.publish(channelOf(text), text).catch(refused)
  },
  close (socket) {
    connections--
    socket.getUserData().closed = true
  }
})

function subscribe (channel) {
  let ready = subscribed.get(channel)
  if (ready === undefined) subscribed.set(channel, ready = subscriber.subscribe(channel, text => app.publish(channel, text)))
  return ready
}

const listening = await new Promise(resolve => app.listen('127.0.0.1', 0, resolve))
if (listening === false) throw new Error('uWebSockets.js can not listen')
tell({ port: () => uws.us_socket_local_port(listening), connections: () => connections })
