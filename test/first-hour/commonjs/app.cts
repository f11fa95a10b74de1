import Fastify = require('fastify')
import plugin = require('fastify-cloud-run-websocket')
import cloudRunWebSocket, { type Connection } from 'fastify-cloud-run-websocket'

const seen: Connection[] = []
const options: plugin.Options = { onConnect: connection => { seen.push(connection) } }

async function main () {
  const app = Fastify()
  await app.register(plugin.default, options)
  await app.close()
  const other = Fastify()
  await other.register(cloudRunWebSocket, options)
  await other.close()
}

main()
