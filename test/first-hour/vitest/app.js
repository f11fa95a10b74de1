import Fastify from 'fastify'
import cloudRunWebSocket from 'fastify-cloud-run-websocket'

export async function buildApp (options = {}) {
  const app = Fastify()
  await app.register(cloudRunWebSocket, {
    onConnect: connection => connection.subscribe('news'),
    onMessage: (connection, data) => app.realtime.publish('news', { from: connection.user, text: String(data) }),
    ...options
  })
  return app
}
