import Fastify from 'fastify'
import { channelOf, channelsIn, FIRST_CHANNEL, isPublisher, measured, READY, refused } from './measured.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  rateLimit: false,
  maxConnections: 100_000,
  shutdown: false,
  // Only what is asked for: a build that is compared may be from before there was an option.
  channels: { '': { subscribe: true, ...process.env.BENCH_BATCH_DELAY && { batchDelay: Number(process.env.BENCH_BATCH_DELAY) }, ...process.env.BENCH_HISTORY && { history: { size: 1_000, ttl: '1m' } }, ...process.env.BENCH_PRESENCE && { presence: true } } },
  async onConnect (connection, { url }) {
    if (connection.protocol !== 'plain') return // an SDK subscribes by itself
    if (!isPublisher(url)) await Promise.all(channelsIn(url).map(channel => connection.subscribe(channel)))
    else if (process.env.BENCH_EXCEPT) await connection.subscribe(FIRST_CHANNEL)
    connection.send(READY)
  },
  onMessage (connection, data) {
    const published = app.realtime.publish(channelOf(data), data, process.env.BENCH_EXCEPT && { except: connection })
    if (process.env.BENCH_RETURN) return published // the plugin pipelines it
    published.catch(refused) // not awaited, as with the peers; the order is kept all the same
  }
})
await app.listen({ port: 0, host: '127.0.0.1' })
await measured(app.server)
