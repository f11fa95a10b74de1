// The built package, as a user has it: one register call, and it is healthy. Ends by itself, or something leaks.
import assert from 'node:assert/strict'
import Fastify from 'fastify'
import cloudRunWebSocket from 'fastify-cloud-run-websocket'

const app = Fastify()
await app.register(cloudRunWebSocket)
const response = await app.inject('/health')
assert.equal(response.statusCode, 200)
await app.close()
