// Minutes of traffic under random faults: is anything lost, and does anything grow? `npm run soak`, see README.md.
import { Centrifuge } from 'centrifuge'
import { setTimeout as wait } from 'node:timers/promises'
import WebSocket from 'ws'
import { check, isViolated, sum } from '../test/faults/checker.ts'
import { FaultProxy } from '../test/faults/proxy.ts'
import { logOf } from '../test/faults/sdk-log.ts'
import { startBalancer } from '../test/helpers/balancer.ts'
import { command, startRedis } from '../test/helpers/redis.ts'
import { Random } from '../test/simulator/random.ts'
import { Child } from './child.mjs'
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { format } from './numbers.mjs'
import { readOptions } from './options.mjs'

/** ms between two publications of an instance, and between two faults. */
const PACE = 40
const PAUSE = [2_000, 8_000]
/** ms that a fault lasts. */
const FAULT = [500, 8_000]
/** ms in which the last publications must have arrived. */
const LAST = 30_000
/** ms in which all that was started must have stopped; what hangs ends with this process. */
const STOP = 10_000
/** Bytes by which the heap of an instance may grow: caches that fill. */
const HEAP_GROWTH = 8_388_608

const options = readOptions({ minutes: 20, instances: 3, clients: 30, channels: 10, seed: Date.now() % 1_000_000, plugin: defaultPlugin }, {
  minutes: 0.1, clients: 10, channels: 3
})
const random = new Random(options.seed)
const channels = Array.from({ length: options.channels }, (_, i) => `room${i}`)
const acknowledged = new Map(channels.map(channel => [channel, []]))
const cleanups = []
const scope = { teardown: cleanup => { cleanups.push(cleanup) } }

/** An instance in a process of its own, with a link to Redis that can be broken. It publishes all the time. */
class Instance {
  name
  child
  proxy
  url
  #number = 0
  #publishing
  #stopped = false

  static #started = 0

  static async start (redis) {
    const instance = new Instance()
    instance.name = `instance ${++Instance.#started}`
    instance.proxy = await FaultProxy.start(redis.port)
    cleanups.push(() => instance.proxy.close())
    instance.child = new Child('servers/soak.mjs', {
      env: { REDIS_URL: `redis://127.0.0.1:${instance.proxy.port}`, BENCH_PLUGIN: options.plugin, NODE_OPTIONS: '' }, execArgv: ['--expose-gc']
    })
    cleanups.push(() => instance.child.stop())
    instance.url = `ws://127.0.0.1:${await instance.child.call('port')}`
    return instance
  }

  publish () {
    this.#publishing = this.#run()
  }

  /** Each publication in a channel chosen at random; what is refused or cut off is not counted. */
  async #run () {
    while (!this.#stopped) {
      await this.publishIn(random.pick(channels)).catch(() => {})
      await wait(PACE)
    }
  }

  async publishIn (channel) {
    const publication = { publisher: this.name, number: ++this.#number }
    const { offset = 0, epoch = '' } = await this.child.call('publish', channel, publication)
    acknowledged.get(channel).push({ ...publication, offset, epoch })
    return publication
  }

  async quiet () {
    this.#stopped = true
    await this.#publishing
  }
}

/** A client that is in some channels. */
function newClient (url) {
  const client = new Centrifuge(`${url}/connection/websocket`, { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 1_000 })
  const logs = new Map()
  for (let i = 0; i < 3; i++) {
    const channel = random.pick(channels)
    if (logs.has(channel)) continue
    const subscription = client.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 1_000 })
    logs.set(channel, logOf(subscription, acknowledged.get(channel)))
    subscription.subscribe()
  }
  client.connect()
  cleanups.push(() => client.disconnect())
  return { client, logs }
}

const faults = {
  'links cut': ({ instances }) => instances.forEach(({ proxy }) => proxy.cut()),
  'Pub/Sub cut': ({ redis }) => command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub']),
  refused: service => during(service, proxy => proxy.refuse()),
  late: service => during(service, proxy => proxy.delay(random.between(50, 500))),
  throttled: service => during(service, proxy => proxy.throttle(random.between(20_000, 100_000))),
  frozen: service => during(service, proxy => proxy.freeze()),
  'half-open down': service => during(service, proxy => proxy.swallow('down')),
  'half-open up': service => during(service, proxy => proxy.swallow('up')),
  'Redis frozen': async ({ redis }) => {
    redis.freeze()
    await wait(random.between(...FAULT))
    redis.thaw()
  },
  'Redis killed': async ({ redis }) => {
    await redis.kill()
    await wait(random.between(0, 2_000))
    await redis.restart()
  },
  'clients cut': ({ balancer }) => balancer.cut(),
  'clients away': async ({ clients }) => {
    const away = clients.filter(() => random.chance(0.5))
    for (const { client } of away) client.disconnect()
    await wait(random.between(...FAULT))
    for (const { client } of away) client.connect()
  },
  'instance replaced': service => replace(service, ({ child }) => child.call('close')),
  'instance killed': service => replace(service, ({ child }) => process.kill(child.pid, 'SIGKILL'))
}

async function during ({ instances }, start) {
  const { proxy } = random.pick(instances)
  start(proxy)
  await wait(random.between(...FAULT))
  proxy.heal()
}

/** The first instance stays: it is the one that is measured. */
async function replace ({ instances, balancer, redis }, end) {
  const old = random.pick(instances.slice(1))
  const next = await Instance.start(redis)
  balancer.targets.push(next.url)
  instances.push(next)
  next.publish()
  balancer.targets.splice(balancer.targets.indexOf(old.url), 1)
  instances.splice(instances.indexOf(old), 1)
  const quiet = old.quiet()
  await end(old)
  await quiet
  await old.child.stop()
}

/** Every instance publishes in every channel; resolves when all of it has arrived, or when time is up. */
async function settle ({ instances, clients }) {
  await Promise.all(instances.map(instance => instance.quiet()))
  const deadline = Date.now() + LAST
  const last = []
  for (const instance of instances) {
    for (const channel of channels) {
      for (let done = false; !done && Date.now() < deadline;) {
        done = await instance.publishIn(channel).then(publication => last.push({ channel, ...publication }), () => wait(100, false))
      }
    }
  }
  const arrived = () => clients.every(({ logs }) => last.every(({ channel, publisher, number }) => {
    return logs.get(channel)?.some(entry => entry.publisher === publisher && entry.number === number) ?? true
  }))
  while (!arrived() && Date.now() < deadline) await wait(100)
}

async function leaveAll ({ clients, instances: [first] }) {
  for (const { client } of clients) client.disconnect()
  for (let i = 0; i < 100 && (await first.child.call('left')).connections > 0; i++) await wait(100)
  return first.child.call('left')
}

async function soak () {
  const redis = await startRedis(scope, { persist: true })
  const balancer = await startBalancer(scope, [])
  const instances = []
  for (let i = 0; i < options.instances; i++) instances.push(await Instance.start(redis))
  balancer.targets.push(...instances.map(({ url }) => url))
  const clients = Array.from({ length: options.clients }, () => newClient(balancer.url))
  const service = { redis, balancer, instances, clients }
  for (const { client } of clients) await client.ready(30_000)
  for (const instance of instances) instance.publish()
  await wait(5_000)
  const before = await leaveAll(service)
  for (const { client } of clients) client.connect()

  const counted = {}
  const end = Date.now() + options.minutes * 60_000
  while (Date.now() < end) {
    await wait(random.between(...PAUSE))
    const name = random.pick(Object.keys(faults))
    console.error(`${Math.round((end - Date.now()) / 1_000)} s left: ${name}`)
    counted[name] = (counted[name] ?? 0) + 1
    await faults[name](service)
  }
  await settle(service)
  const counts = sum(channels.map(channel => {
    return check(acknowledged.get(channel), clients.flatMap(({ logs }) => logs.has(channel) ? [logs.get(channel)] : []))
  }))
  return { counts, counted, before, after: await leaveAll(service) }
}

endByExit()
describeMachine()
console.error(`seed ${options.seed}`)
let result
try {
  result = await soak()
} finally {
  for (const cleanup of cleanups.reverse()) await Promise.race([cleanup(), wait(STOP)])
  if (result === undefined) setImmediate(() => process.exit(1)) // after the error is shown: the instances still publish
}
const { counts, counted, before, after } = result
const mebibytes = bytes => (bytes / 1_048_576).toFixed(1)
const columns = {
  minutes: options.minutes,
  faults: Object.values(counted).reduce((total, count) => total + count, 0),
  acked: format(counts.acked),
  delivered: format(counts.delivered),
  told: format(counts.told),
  lost: counts.lost,
  twice: counts.twice,
  'out of order': counts.disordered,
  'falsely recovered': counts.falselyRecovered,
  'RSS, MiB': `${mebibytes(before.rss)} to ${mebibytes(after.rss)}`,
  'heap, MiB': `${mebibytes(before.heap)} to ${mebibytes(after.heap)}`,
  handles: `${before.handles} to ${after.handles}`
}
printMarkdown(Object.keys(columns), [Object.values(columns)], 0)
const grown = after.heap - before.heap > HEAP_GROWTH || after.handles > before.handles || after.connections > 0
process.exit(isViolated(counts) || grown ? 1 : 0)
