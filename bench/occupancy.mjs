// What it costs Redis to tell who comes and goes: onOccupied, onVacated, onUserOnline, onUserOffline.
import Fastify from 'fastify'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import WebSocket from 'ws'
import { printMarkdown } from './markdown.mjs'
import { readOptions } from './options.mjs'
import { RedisCounters } from './redis-counters.mjs'
import { startRedis } from './redis.mjs'

const { plugin, clients, idle } = readOptions({ plugin: 'dist/index.js', clients: 950, idle: 40 }, { clients: 50, idle: 4 })
const { default: cloudRunWebSocket } = await import(pathToFileURL(resolve(plugin)))

let told = 0
const tell = () => { told++ }
const users = { onUserOnline: tell, onUserOffline: tell }
const channels = { onOccupied: tell, onVacated: tell }
const variants = [['without handlers', {}], ['users', users], ['users and channels', { ...users, ...channels }]]

/** Commands that scripts do not call themselves: what an instance has sent. */
const sent = ({ calls }) => calls('evalsha') + calls('eval')

/** One instance whose clients each have a user of their own and one channel of their own. */
async function start (url, handlers) {
  const app = Fastify()
  await app.register(cloudRunWebSocket, {
    redis: url,
    keyPrefix: `bench-${Object.keys(handlers).length}`,
    rateLimit: false,
    maxConnections: 100_000,
    shutdown: false,
    gracePeriod: 0,
    authenticate: ({ query: { user } }) => ({ user, meta: user }),
    async onConnect (connection) {
      await connection.subscribe(`room:${connection.user}`)
      connection.send('ready')
    },
    ...handlers
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

async function open (app, i) {
  const socket = new WebSocket(`ws://127.0.0.1:${app.server.address().port}/ws?user=user-${String(i).padStart(8, '0')}`)
  await once(socket, 'message')
  return socket
}

async function close (socket) {
  socket.close()
  await once(socket, 'close')
}

/** Until the grace periods are over, and all is told. */
async function settle () {
  for (let before = -1; before !== told; await wait(2_500)) before = told
}

async function measure (counters, url, handlers) {
  const app = await start(url, handlers)
  for (let i = 0; i < 20; i++) await close(await open(app, i)) // so that every script is known
  await settle()
  const quiet = await counters.during(() => wait(idle * 1_000))
  const perSecond = sent(quiet) / quiet.time
  const events = told
  const one = await counters.during(async () => {
    for (let i = 0; i < clients; i++) await close(await open(app, i))
    await settle()
  })
  const come = await counters.during(async () => {
    const sockets = await Promise.all(Array.from({ length: clients }, (_, i) => open(app, i)))
    await settle()
    return sockets
  })
  const go = await counters.during(async () => {
    await Promise.all(come.result.map(close))
    await settle()
  })
  const perClient = (...measured) => (measured.reduce((sum, one) => sum + sent(one) - perSecond * one.time, 0) / clients).toFixed(2)
  await app.close()
  const perUser = [one.cpu, come.memory].map(sum => (sum / clients).toFixed(0))
  return [perSecond.toFixed(2), perClient(one), perClient(come, go), ...perUser, told - events]
}

const redis = await startRedis()
const counters = await RedisCounters.of(redis)
const rows = []
for (const [name, handlers] of variants) rows.push([name, ...await measure(counters, redis.url, handlers)])
printMarkdown([
  'handlers', 'scripts/s of an idle instance', 'scripts per connect and disconnect, one by one', `of ${clients} at once`, 'us of Redis each, one by one', 'bytes of Redis each', 'events told'
], rows, 1)
counters.close()
await redis.stop()
process.exit()
