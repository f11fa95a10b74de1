// Before TypeScript 5.8, and with module node16, `require()` of ECMAScript modules is not allowed: `import()` is.
import Fastify = require('fastify')
import type { Options } from 'fastify-cloud-run-websocket' with { 'resolution-mode': 'import' }

const options: Options = { maxConnections: 10 }

async function main () {
  const { default: cloudRunWebSocket } = await import('fastify-cloud-run-websocket')
  const app = Fastify()
  await app.register(cloudRunWebSocket, options)
  await app.realtime.publish('news', 'hello')
  await app.close()
}

main()
