const Fastify = require('fastify')
const { default: cloudRunWebSocket, ClientError } = require('fastify-cloud-run-websocket')

/** @param {import('fastify-cloud-run-websocket').Options} [options] */
async function build (options) {
  const app = Fastify()
  await app.register(cloudRunWebSocket, { onMessage: (connection, data) => connection.send(data), ...options })
  return app
}

async function main () {
  const app = await build()
  const { statusCode } = await app.inject('/health')
  await app.close()

  const whole = Fastify() // Fastify takes the module as it comes, too
  await whole.register(require('fastify-cloud-run-websocket'))
  await whole.close()
  console.log(statusCode, new ClientError(404, 'no such room').message)
}

main()
