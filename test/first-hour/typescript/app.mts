import Fastify from 'fastify'
import cloudRunWebSocket, { ClientError, cloudLogging, type Connection, type Options } from 'fastify-cloud-run-websocket'

interface ChatMessage { text: string }

declare module 'fastify-cloud-run-websocket' {
  interface RealtimeTypes {
    meta: { tenant: string } | undefined
    info: { name: string }
    channels: { chat: ChatMessage }
  }
}

const options: Options = {
  authenticate: async request => {
    if (request.headers.authorization === undefined) throw new ClientError(401, 'log in first')
    return { user: '42', info: { name: 'Ann' }, meta: { tenant: 'acme' } }
  },
  channels: {
    chat: {
      subscribe: connection => connection.meta?.tenant === 'acme',
      publish: (_connection, _channel, data) => data.text !== '',
      history: { size: 100, ttl: '10m' }
    },
    news: { subscribe: true }
  },
  onConnect: connection => connection.subscribe('chat:lobby'),
  onMessage: (connection, data) => app.realtime.publish('chat:lobby', { text: `${connection.info.name}: ${String(data)}` }),
  onDisconnect: (connection, { cause }) => { app.log.info({ user: connection.user, cause }, 'gone') }
}

const app = Fastify({ logger: cloudLogging() })
await app.register(cloudRunWebSocket, options)

const { publications } = await app.realtime.history('chat:lobby')
export const texts: string[] = publications.map(({ data }) => data.text)

// @ts-expect-error: a message has a text
await app.realtime.publish('chat:lobby', { txt: 'hello' })
// @ts-expect-error: an option that is misspelt
export const misspelt: Options = { maxConnection: 10 }

export const fake: Connection = {
  id: '1',
  user: '42',
  info: { name: 'Ann' },
  meta: { tenant: 'acme' },
  protocol: 'plain',
  transport: 'websocket',
  connectedAt: 0,
  channels: new Set<string>(),
  open: true,
  send: () => true,
  subscribe: async () => ({}),
  unsubscribe: async () => {},
  request: async () => undefined,
  close () {}
}
