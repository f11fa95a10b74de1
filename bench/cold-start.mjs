// How long a process takes from its start until it is ready, with and without this plugin.
// Prints one Markdown table. See README.md.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { get } from 'node:http'
import { createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startGoogle } from './google.mjs'
import { startRedis } from './redis.mjs'

const kinds = [
  { id: 'bare', name: 'Fastify, `@fastify/websocket`, node-redis' },
  { id: 'plugin', name: 'this plugin, `telemetry` and `logging` off' },
  { id: 'observed', name: 'this plugin on Cloud Run, metrics and log entries on', google: true }
]
/** ms between two requests for /ready, and until a start counts as failed. */
const ASK_INTERVAL = 2
const START_TIMEOUT = 30_000

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '10' },
    plugin: { type: 'string', default: fileURLToPath(new URL('../dist/index.js', import.meta.url)) }
  }
})

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Status of the answer; 0 while nobody listens. */
function ready (port) {
  return new Promise(resolve => {
    get({ port, host: '127.0.0.1', path: '/ready', agent: false }, response => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', () => resolve(0))
  })
}

/** ms from the start of the process to the first 200, and of CPU until then. */
async function start ({ id }, env) {
  const port = await freePort()
  const startedAt = performance.now()
  const child = spawn(process.execPath, [fileURLToPath(new URL('servers/start.mjs', import.meta.url))], {
    env: { ...process.env, ...env, PORT: String(port), BENCH_START: id, BENCH_PLUGIN: options.plugin }, stdio: ['ignore', 'ignore', 'inherit', 'ipc']
  })
  const exited = once(child, 'exit')
  try {
    while (await ready(port) !== 200) {
      if (child.exitCode !== null || performance.now() - startedAt > START_TIMEOUT) throw new Error(`${id} did not start`)
      await wait(ASK_INTERVAL)
    }
    const time = performance.now() - startedAt
    child.send('cpu')
    const [cpu] = await once(child, 'message')
    return { time, cpu }
  } finally {
    child.kill('SIGKILL')
    await exited
  }
}

const redis = await startRedis()
const google = await startGoogle()
const times = new Map(kinds.map(kind => [kind, []]))
try {
  // In turn, so that what else the machine does meets all alike; the first round fills the disk cache.
  for (let run = 0; run <= Number(options.runs); run++) {
    for (const [kind, measured] of times) {
      const figures = await start(kind, { REDIS_URL: redis.url, ...kind.google && google.env })
      if (run > 0) measured.push(figures)
    }
  }
} finally {
  google.stop()
  await redis.stop()
}

function summary (figures) {
  const sorted = figures.toSorted((a, b) => a - b)
  return {
    median: (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2,
    fastest: sorted[0],
    slowest: sorted.at(-1)
  }
}

const rows = Array.from(times, ([{ name }, measured]) => ({
  name,
  time: summary(measured.map(({ time }) => time)),
  cpu: summary(measured.map(({ cpu }) => cpu))
}))
const [bare] = rows
console.log('| process | ready after, median, ms | over the first | fastest | slowest | CPU until then, median, ms | over the first | least | over the first |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
for (const { name, time, cpu } of rows) {
  const cells = [
    time.median, time.median - bare.time.median, time.fastest, time.slowest,
    cpu.median, cpu.median - bare.cpu.median, cpu.fastest, cpu.fastest - bare.cpu.fastest
  ]
  console.log(`| ${name} | ${cells.map(cell => cell.toFixed(0)).join(' | ')} |`)
}
