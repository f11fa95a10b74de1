import Fastify from 'fastify'
import { cloudLogging, createPublisher } from 'fastify-cloud-run-websocket'
import { pubsubPush } from './push.mjs'

const { PORT = '8080', PUSH_AUDIENCE, PUSH_SERVICE_ACCOUNT } = process.env
if (!PUSH_AUDIENCE || !PUSH_SERVICE_ACCOUNT) throw new Error('set PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT, as the subscription has them')

const app = Fastify({ logger: cloudLogging() })
const publisher = await createPublisher({
  // The history of the app that holds the connections, or its clients cannot recover.
  channels: { orders: { history: { size: 100, ttl: '10m' } } },
  logger: app.log
})
app.addHook('onClose', () => publisher.close())

await app.register(pubsubPush, {
  prefix: '/push',
  publish: publisher.publish,
  audience: PUSH_AUDIENCE,
  serviceAccount: PUSH_SERVICE_ACCOUNT,
  allows: channel => channel.startsWith('orders:')
})

process.once('SIGTERM', () => app.close())
await app.listen({ host: '0.0.0.0', port: Number(PORT) })
