// What compression.mjs measures: one room, compressed as BENCH_COMPRESSION says.
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { setTimeout as wait } from 'node:timers/promises'
import { messages } from '../compression-messages.mjs'
import { measured } from './measured.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)
const { BENCH_COMPRESSION: kind, BENCH_BATCH_DELAY: batchDelay } = process.env
/** As an app has it that compresses with `ws` alone: every message, and without contexts that stay, or with them. */
const ownServers = {
  ws: { threshold: 128, serverNoContextTakeover: true, clientNoContextTakeover: true },
  context: { threshold: 128 }
}

const app = Fastify()
if (ownServers[kind] !== undefined) await app.register(websocket, { options: { perMessageDeflate: ownServers[kind] } })
await app.register(cloudRunWebSocket, {
  redis: false,
  rateLimit: false,
  shutdown: false,
  telemetry: false,
  maxConnections: 100_000,
  maxBufferedBytes: 16_777_216, // where `ws` compresses, whole messages wait for it
  heartbeat: { interval: '10m' },
  channels: { room: { subscribe: true, batchDelay: Number(batchDelay) } },
  // Only what is asked for: another build may be from before there was the option.
  ...kind === 'shared' && { compression: true }
})
await app.listen({ port: 0, host: '127.0.0.1' })

/** Of the next message: a context that is kept must not find an old one again. */
let number = 0

await measured(app.server, {
  subscribed: () => Array.from(app.realtime.connections).filter(({ channels }) => channels.size > 0).length,
  async publish ({ message, rate, seconds }) {
    const startedAt = performance.now()
    for (let i = 0; i < rate * seconds; i++) {
      const early = startedAt + 1_000 * i / rate - performance.now()
      if (early > 1) await wait(early)
      await app.realtime.publish('room:1', messages[message](number++))
    }
    return rate * seconds
  }
})
