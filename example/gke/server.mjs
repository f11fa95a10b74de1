// Broadcasts what a client sends, to the clients of every pod. Small enough to begin your own app with.
import Fastify from 'fastify'
import cloudRunWebSocket, { cloudLogging } from 'fastify-cloud-run-websocket'

const { PORT = '8080', MAX_CONNECTIONS = '4000', SHUTDOWN_TIMEOUT = '90s', TOKEN_SECRET: secret } = process.env

const ROOM = 'room:lobby'

/** Clients of `npx fastify-cloud-run-websocket load`, with tokens that only the holder of the secret can sign. */
const isLoadClient = ({ user }) => user.startsWith('load-')

const app = Fastify({ logger: cloudLogging() })

await app.register(cloudRunWebSocket, {
  maxConnections: Number(MAX_CONNECTIONS),
  // The load balancer closes every connection at this age.
  requestTimeout: '24h',
  // Clients come back long before that: so new pods get their share of them within hours.
  maxConnectionAge: '4h',
  // X-Forwarded-For ends with the client's address and the load balancer's.
  trustedProxies: 2,
  // The pod's terminationGracePeriodSeconds is longer than this.
  shutdown: { timeout: SHUTDOWN_TIMEOUT },
  // For the official SDKs at /connection/websocket, with tokens that your backend signs with the same secret.
  token: secret ? { secret } : undefined,
  channels: {
    room: { subscribe: true, history: { size: 100, ttl: '1d' } },
    load: { subscribe: isLoadClient, publish: isLoadClient, history: { size: 1_000, ttl: '5m' } }
  },

  async onConnect (connection) {
    await connection.subscribe(ROOM)
  },

  async onMessage (connection, data) {
    const text = String(data).slice(0, 2_000)
    await app.realtime.publish(ROOM, { text, time: Date.now() })
  }
})

await app.listen({ port: Number(PORT), host: '0.0.0.0' })
