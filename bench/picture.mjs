// Draws example/monitoring/dashboard.json over a run of two minutes with real instances, clients and Redis.
// See example/monitoring/README.md.
import { Centrifuge } from 'centrifuge'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import WebSocket from 'ws'
import { findProgram } from '../test/helpers/programs.js'
import { Balancer } from './balancer.mjs'
import { Child } from './child.mjs'
import { page, WIDTH } from './picture-page.mjs'
import { PromQL } from './promql.mjs'
import { startRedis } from './redis.mjs'

/** A window of 2 minutes becomes 6 s: in the run everything happens faster than in a service. */
const SCALE = 1 / 20
/** ms */
const STEP = 1_000
const ROOMS = 10
const MAX_CONNECTIONS = 115
const SERVICE = 'chat'

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: fileURLToPath(new URL('../example/monitoring/dashboard.png', import.meta.url)) },
    plugin: { type: 'string', default: fileURLToPath(new URL('../dist/index.js', import.meta.url)) },
    /** s; more than 110 show all. */
    seconds: { type: 'string', default: '120' }
  }
})

const series = new Map()
const entries = []

class Instance {
  #child
  #name
  #env
  #known = new Set()
  #lastAt
  #timer

  constructor (name, redis) {
    this.#name = name
    this.#env = { REDIS_URL: redis, BENCH_PLUGIN: values.plugin, MAX_CONNECTIONS: String(MAX_CONNECTIONS) }
  }

  async start () {
    this.#child = new Child('servers/picture-plugin.mjs', { env: this.#env })
    const port = await this.#child.call('port')
    this.#lastAt = Date.now()
    this.#timer = setInterval(() => this.#collect(), STEP)
    return port
  }

  /** SIGTERM, as Cloud Run does it. */
  replace () {
    process.kill(this.#child.pid, 'SIGTERM')
  }

  async stop () {
    clearInterval(this.#timer)
    await this.#child?.stop()
  }

  async #collect () {
    const time = Date.now()
    let collected
    try {
      collected = await this.#child.call('collect')
    } catch {
      return clearInterval(this.#timer) // it has ended, as planned; what it lacked in the picture would be seen there
    }
    entries.push(...collected.entries.map(entry => ({ ...entry, instance: this.#name })))
    for (const { name, attributes, value } of collected.points) {
      const labels = { job: SERVICE, cluster: '__run__', location: 'europe-west1', instance: this.#name, ...attributes }
      const key = `${name} ${JSON.stringify(labels)}`
      if (!this.#known.has(key)) {
        const samples = isGauge(name) ? [] : [[this.#lastAt, 0]]
        series.set(name, [...series.get(name) ?? [], { key, labels, samples }])
      }
      this.#known.add(key)
      series.get(name).find(one => one.key === key).samples.push([time, value])
    }
    this.#lastAt = time
  }
}

/** What counts begins at zero, as its start time says in OTLP. */
function isGauge (name) {
  return /\.(active|limit|up|usage|p99)$/.test(name)
}

const sockets = []

function connectSdk (port, i) {
  const centrifuge = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, {
    websocket: class extends WebSocket {
      constructor (url, protocols) {
        super(url, protocols)
        sockets.push(this)
      }
    }
  })
  for (const channel of [`room:${i % ROOMS}`, 'ticker:1']) centrifuge.newSubscription(channel).subscribe()
  centrifuge.on('error', () => {}) // it connects again
  centrifuge.connect()
}

function connectPlain (port, headers = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers })
  socket.on('error', () => {}) // refused, which the server counts
  return socket
}

/** What happens at which second. */
const scenario = ({ port, balancer, ports, first, third, redis }) => [
  ...Array.from({ length: 120 }, (_, i) => [2 + i * 0.12, () => connectSdk(port, i)]),
  ...Array.from({ length: 20 }, (_, i) => [3 + i * 0.7, () => connectPlain(port)]),
  [36, async () => { balancer.targets = [await third, ports[1]] }],
  [38, async () => third.then(() => first.replace())],
  [62, () => process.kill(redis.pid, 'SIGSTOP')],
  [71, () => process.kill(redis.pid, 'SIGCONT')],
  ...Array.from({ length: 130 }, (_, i) => [78 + i * 0.05, () => connectPlain(port)]),
  ...Array.from({ length: 30 }, (_, i) => [80 + i * 0.2, () => connectPlain(port, { origin: 'https://elsewhere.example' })]),
  ...Array.from({ length: 25 }, (_, i) => [
    94 + i * 0.1,
    () => sockets.filter(socket => socket.readyState === WebSocket.OPEN)[i * 5]?.terminate()
  ])
]

async function run () {
  const redis = await startRedis()
  const balancer = new Balancer()
  const instances = ['a', 'b', 'c'].map(name => new Instance(name, redis.url))
  try {
    const port = await balancer.start()
    const ports = [await instances[0].start(), await instances[1].start()]
    balancer.targets = [...ports]
    const start = Date.now()
    const third = wait(20_000).then(() => instances[2].start())
    const timers = scenario({ port, balancer, ports, first: instances[0], third, redis }).map(([at, act]) => setTimeout(act, at * 1_000))
    await wait(Number(values.seconds) * 1_000)
    timers.forEach(clearTimeout)
    return { start, end: Date.now() - STEP }
  } finally {
    process.kill(redis.pid, 'SIGCONT')
    balancer.stop()
    await Promise.all(instances.map(instance => instance.stop()))
    await redis.stop()
  }
}

const read = path => JSON.parse(readFileSync(new URL(`../example/monitoring/${path}`, import.meta.url), 'utf8').replaceAll(/\$\{SERVICE\}/g, SERVICE))
const alerts = readdirSync(new URL('../example/monitoring/alerts', import.meta.url)).map(file => read(`alerts/${file}`))

/** When each alert would have been open. */
function incidents (promql, start, end) {
  return alerts.flatMap(({ displayName, severity, conditions: [{ conditionPrometheusQueryLanguage: { query, duration } }] }) => {
    const found = []
    let since
    for (let time = start; time <= end; time += STEP) {
      if (promql.evaluate(query, time).length === 0) since = undefined
      else if (time - (since ??= time) >= promql.scaled(duration)) {
        const open = found.at(-1)
        if (open?.since === since) open.until = time
        else found.push({ name: displayName, severity, since, until: time })
      }
    }
    return found
  }).sort((a, b) => a.since - b.since)
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1)) // takes the children along
const { start, end } = await run()
const promql = new PromQL(series, SCALE)
const times = []
for (let time = start; time <= end; time += STEP) times.push(time)
const html = page({ dashboard: read('dashboard.json'), times, evaluate: (query, time) => promql.evaluate(query, time), entries, incidents: incidents(promql, start, end) })
const browser = await chromium.launch({ executablePath: findProgram('chromium'), args: ['--headless', '--no-sandbox', '--disable-gpu'] })
try {
  const tab = await browser.newPage({ viewport: { width: WIDTH, height: 800 } })
  await tab.setContent(html)
  await tab.screenshot({ path: values.out, fullPage: true })
} finally {
  await browser.close()
}
console.log(`${values.out}: ${Math.round(readFileSync(values.out).length / 1_024)} KiB`)
process.exit() // clients still want to connect again
