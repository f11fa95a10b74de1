// A chat of one room, small enough to begin your own app with: `npm start`, then http://localhost:8080.
import fastifyStatic from '@fastify/static'
import Fastify from 'fastify'
import cloudRunWebSocket, { cloudLogging } from 'fastify-cloud-run-websocket'
import { join } from 'node:path'

const { PORT = '8080', CLOUD_RUN_CONCURRENCY = '1000', TOKEN_SECRET: secret, TRUSTED_PROXIES = '0', REDIS_READINESS } = process.env

const ROOM = 'room:lobby'
/** Messages that somebody who comes gets to see. */
const SHOWN = 50
/** Of the requests that the service lets an instance have; the rest is left for pages and probes. */
const CONNECTIONS_SHARE = 0.95

/** Clients of `npx fastify-cloud-run-websocket load`, with tokens that only the holder of the secret can sign. */
const isLoadClient = ({ user }) => user.startsWith('load-')

const app = Fastify({ logger: cloudLogging() })

await app.register(fastifyStatic, {
  root: join(import.meta.dirname, 'public'),
  logLevel: 'warn',
  setHeaders (reply) {
    reply.header('content-security-policy', "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    reply.header('x-content-type-options', 'nosniff')
  }
})

await app.register(cloudRunWebSocket, {
  maxConnections: Math.max(1, Math.floor(Number(CLOUD_RUN_CONCURRENCY) * CONNECTIONS_SHARE)),
  // Set where a load balancer is in front, and where there are two regions: see ../load-balancer.
  trustedProxies: Number(TRUSTED_PROXIES),
  redisReadiness: REDIS_READINESS,
  // For the official SDKs at /connection/websocket, with tokens that your backend signs with the same secret.
  token: secret ? { secret } : undefined,
  channels: {
    room: { subscribe: true, history: { size: 100, ttl: '1d' } },
    load: { subscribe: isLoadClient, publish: isLoadClient, history: { size: 1_000, ttl: '5m' } }
  },

  async onConnect (connection) {
    const { publications, offset, epoch } = await app.realtime.history(ROOM, { limit: SHOWN, reverse: true })
    for (const { data } of publications.reverse()) connection.send(data)
    // What was published since it was read comes first: nothing is missed, nothing comes twice.
    await connection.subscribe(ROOM, { since: { offset, epoch } })
  },

  async onMessage (connection, data) {
    const message = messageFrom(data)
    if (message === undefined) return connection.close(4000, 'not a message')
    await app.realtime.publish(ROOM, { ...message, time: Date.now() })
  }
})

/** Nothing from outside is trusted. */
function messageFrom (data) {
  try {
    const { name, text } = JSON.parse(data)
    if (isText(name, 32) && isText(text, 2_000)) return { name, text }
  } catch {
    // Not JSON, so it is no message either.
  }
}

const isText = (value, max) => typeof value === 'string' && value.trim() !== '' && value.length <= max

await app.listen({ port: Number(PORT), host: '0.0.0.0' })
