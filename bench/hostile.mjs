// One attack after the other on a server of ours: what it costs, and what others notice. See README.md.
import { Centrifuge } from 'centrifuge'
import { setTimeout as wait } from 'node:timers/promises'
import { createClient } from 'redis'
import WebSocket from 'ws'
import { Child } from './child.mjs'
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { milliseconds } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { startRedis } from './redis.mjs'

/** ms between two looks of those who do no harm, and until one of them gives up. */
const LOOK = 50
const PATIENCE = 10_000
/** ms after the attacker has left. */
const AFTER = 5_000
/** The heap that Node.js takes in a container of 1 GiB, about. */
const EXEC_ARGV = ['--max-old-space-size=512', '--expose-gc']

const options = readOptions({ attacks: '', seconds: 4, plugin: defaultPlugin }, { seconds: 1 })

/** Somebody who does no harm: asks for /health, and publishes. Notes how long it takes at the most. */
class Bystander {
  worst = { health: 0, publish: 0 }
  failed = 0
  #client
  #port
  #stopped = false
  #looking

  constructor (port) {
    this.#port = port
    this.#client = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, { websocket: WebSocket, timeout: PATIENCE })
    this.#client.connect()
  }

  async look () {
    await this.#client.ready(PATIENCE)
    this.#looking = Promise.all([
      this.#repeat('health', () => fetch(`http://127.0.0.1:${this.#port}/health`, { signal: AbortSignal.timeout(PATIENCE) }).then(reply => reply.text())),
      this.#repeat('publish', () => this.#client.publish('chat:quiet', { text: 'hello' }))
    ])
  }

  forget () {
    this.worst = { health: 0, publish: 0 }
    this.failed = 0
  }

  async stop () {
    this.#stopped = true
    this.#client.disconnect()
    await this.#looking
  }

  async #repeat (what, look) {
    while (!this.#stopped) {
      const startedAt = performance.now()
      try {
        await look()
      } catch {
        if (!this.#stopped) this.failed++
      }
      if (!this.#stopped) this.worst[what] = Math.max(this.worst[what], performance.now() - startedAt)
      await wait(LOOK)
    }
  }
}

async function measure (name, redis) {
  const server = new Child('servers/hostile.mjs', { env: { REDIS_URL: redis.url, BENCH_PLUGIN: options.plugin, NODE_OPTIONS: '' }, execArgv: EXEC_ARGV })
  const attacker = new Child('hostile-attacks.mjs')
  const store = await createClient({ url: redis.url }).on('error', () => {}).connect()
  const redisBytes = async () => Number(/used_memory:(\d+)/.exec(await store.info('memory'))[1])
  const redisPeak = async () => Number(/used_memory_peak:(\d+)/.exec(await store.info('memory'))[1])
  try {
    const port = await server.call('port')
    const bystander = new Bystander(port)
    await bystander.look()
    await wait(1_000)
    const { rss } = await server.call('memory')
    const before = { connections: await server.call('connections'), redis: await redisBytes() }
    await store.configResetStat()
    await server.call('watch')
    bystander.forget()
    const { cpu } = await server.call('figures')
    const startedAt = performance.now()
    try {
      await attacker.call('attack', name, port, options.seconds)
      const took = performance.now() - startedAt
      const used = (await server.call('figures')).cpu - cpu
      await attacker.call('leave')
      await wait(AFTER)
      const { peak } = await server.call('seen')
      const { worst, failed } = bystander
      const left = await server.call('connections') - before.connections
      return { rss, peak, after: (await server.call('memory')).rss, cpu: used / took / 10, worst, failed, left, redisPeak: await redisPeak() - before.redis, redisAfter: await redisBytes() - before.redis }
    } catch (error) {
      if (!server.ended) throw error
      return { ended: true }
    } finally {
      await bystander.stop()
    }
  } finally {
    store.destroy()
    await Promise.all([server.stop(), attacker.stop()])
  }
}

const HEADINGS = ['attack', 'server lived', 'memory, MiB more at the peak', 'and 5 s after', 'CPU, %', 'worst /health, ms', 'worst publish of another, ms', 'failed for others', 'connections left after 5 s', 'Redis, MiB more at the peak', 'and 5 s after']
const mebibytes = bytes => (Math.max(0, bytes) / 1_048_576).toFixed(1)

function cells (name, { ended, rss, peak, after, cpu, worst, failed, left, redisPeak, redisAfter }) {
  if (ended) return [name, '**no**', ...new Array(HEADINGS.length - 2).fill('')]
  return [
    name, 'yes', mebibytes(peak - rss), mebibytes(after - rss), cpu.toFixed(0), milliseconds(worst.health), milliseconds(worst.publish), failed,
    left, mebibytes(redisPeak), mebibytes(redisAfter)
  ]
}

async function attackNames () {
  const attacker = new Child('hostile-attacks.mjs')
  try {
    const all = await attacker.call('names')
    return options.attacks === '' ? all : all.filter(name => options.attacks.split(',').some(part => name.includes(part)))
  } finally {
    await attacker.stop()
  }
}

endByExit()
describeMachine()
const rows = []
for (const name of await attackNames()) {
  console.error(name)
  const redis = await startRedis()
  try {
    rows.push(cells(name, await measure(name, redis)))
  } finally {
    await redis.stop()
  }
}
printMarkdown(HEADINGS, rows, 2)
