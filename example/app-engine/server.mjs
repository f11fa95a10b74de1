// Broadcasts what a client sends, to the clients of every instance. Small enough to begin your own app with.
import Fastify from 'fastify'
import cloudRunWebSocket, { cloudLogging } from 'fastify-cloud-run-websocket'
import { GoogleAuth } from 'google-auth-library'

const { PORT = '8080', MAX_CONNECTIONS = '1500', TRUSTED_PROXIES = '2', GOOGLE_CLOUD_PROJECT: project, TOKEN_SECRET_NAME: name } = process.env

const ROOM = 'room:lobby'

/** Clients of `npx fastify-cloud-run-websocket load`, with tokens that only the holder of the secret can sign. */
const isLoadClient = ({ user }) => user.startsWith('load-')

const app = Fastify({ logger: cloudLogging() })

await app.register(cloudRunWebSocket, {
  maxConnections: Number(MAX_CONNECTIONS),
  // App Engine closes every connection at this age.
  requestTimeout: '60m',
  // README.md says how to find the number for your app.
  trustedProxies: Number(TRUSTED_PROXIES),
  // An instance is killed 30 s after SIGTERM.
  shutdown: { timeout: '25s' },
  // For the official SDKs at /connection/websocket, with tokens that your backend signs with the same secret.
  token: name ? { secret: await readSecret(name) } : undefined,
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

/** Reads a secret once, at the start: app.yaml cannot refer to secrets. */
async function readSecret (name) {
  const token = await new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/cloud-platform' }).getAccessToken()
  const url = `https://secretmanager.googleapis.com/v1/projects/${project}/secrets/${name}/versions/latest:access`
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` } })
  if (!response.ok) {
    throw new Error(`Secret Manager answers ${response.status} for ${name}; the service account needs roles/secretmanager.secretAccessor on it`)
  }
  const { payload } = await response.json()
  return Buffer.from(payload.data, 'base64').toString()
}

await app.listen({ port: Number(PORT), host: '0.0.0.0' })
