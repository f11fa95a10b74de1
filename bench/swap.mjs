// One of two instances is replaced while clients are connected: what do they get? Prints one Markdown table.
// See README.md.
import { availableParallelism, loadavg } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Balancer } from './balancer.mjs'
import { Child } from './child.mjs'
import { startRedis } from './redis.mjs'

const peers = [
  { id: 'socket-io', name: 'Socket.IO + Redis adapter', server: 'swap-socket-io', kinds: ['socket.io'] },
  { id: 'socket-io-streams', name: 'Socket.IO + Redis streams adapter, recovery', server: 'swap-socket-io', kinds: ['socket.io'], env: { BENCH_ADAPTER: 'streams' } },
  { id: 'plugin', name: 'this plugin', server: 'swap-plugin', kinds: [] },
  { id: 'http-stream', name: 'this plugin, HTTP streaming', server: 'swap-plugin', kinds: ['http_stream', 'http_stream protobuf'], env: { BENCH_FALLBACK: 'true' } },
  { id: 'sse', name: 'this plugin, SSE', server: 'swap-plugin', kinds: ['sse'], env: { BENCH_FALLBACK: 'true' } },
  { id: 'event-source', name: 'this plugin, plain `EventSource`', server: 'swap-plugin', kinds: ['uni_sse'], env: { BENCH_FALLBACK: 'true' } }
]
const signals = { planned: 'SIGTERM', crash: 'SIGKILL' }
const encodings = { mixed: ['json', 'protobuf'], json: ['json'], protobuf: ['protobuf'] }

const CLIENT_PROCESSES = 2
/** Of quiet traffic: publications per second after the swap, and those at once while clients are away. */
const QUIET_RATE = 50
const BURST = 20
/** ms of traffic before and after. */
const BEFORE = 2_000
const AFTER = 2_000
/** ms in which the instance must end and its clients be back. */
const SWAP_TIMEOUT = 20_000
/** ms without any message after which nothing more is expected. */
const STALLED = 8_000
/** ms after which nothing more is expected anyway. */
const ARRIVE_TIMEOUT = 60_000
/** ms that a double gets to come. */
const LATE = 500
const LOOK_INTERVAL = 20

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string', default: peers.map(({ id }) => id).join() },
    clients: { type: 'string', default: '200' },
    traffic: { type: 'string', default: '50,250,quiet' },
    swaps: { type: 'string', default: Object.keys(signals).join() },
    encoding: { type: 'string', default: 'mixed' },
    plugin: { type: 'string', default: fileURLToPath(new URL('../dist/index.js', import.meta.url)) }
  }
})
const options = values.quick ? { ...values, clients: '40', traffic: '50' } : values
const chosen = peers.filter(({ id }) => options.peers.split(',').includes(id))
const clients = Number(options.clients)
peers.find(({ id }) => id === 'plugin').kinds = encodings[options.encoding]

/** Whether it came true in time. */
async function until (condition, timeout) {
  const deadline = performance.now() + timeout
  while (!await condition()) {
    if (performance.now() > deadline) return false
    await wait(LOOK_INTERVAL)
  }
  return true
}

function total (results, name) {
  return results.reduce((sum, result) => sum + result[name], 0)
}

async function run (peer, swap, traffic) {
  const children = []
  const start = (file, env) => {
    const child = new Child(file, { env })
    children.push(child)
    return child
  }
  const redis = await startRedis()
  const balancer = new Balancer()
  const startServer = () => start(`servers/${peer.server}.mjs`, { REDIS_URL: redis.url, BENCH_PLUGIN: options.plugin, ...peer.env })
  try {
    const port = await balancer.start()
    // The one that replaces is up before anything is measured, but nobody is sent to it.
    const [old, other, fresh, publisher] = Array.from({ length: 4 }, startServer)
    const groups = Array.from({ length: CLIENT_PROCESSES }, () => start('swap-clients.mjs'))
    const [oldPort, otherPort, freshPort] = await Promise.all([old, other, fresh, publisher].map(server => server.call('port')))
    balancer.targets = [oldPort, otherPort]
    const kinds = Array.from({ length: clients }, (_, i) => peer.kinds[Math.floor(i / CLIENT_PROCESSES) % peer.kinds.length])
    await Promise.all(groups.map((group, i) => group.call('connect', { port, kinds: kinds.filter((_, k) => k % CLIENT_PROCESSES === i) })))
    const progress = async number => {
      const all = await Promise.all(groups.map(group => group.call('progress', number)))
      return { here: total(all, 'here'), done: total(all, 'done'), received: total(all, 'received') }
    }

    const quiet = traffic === 'quiet'
    if (!quiet) await publisher.call('start', Number(traffic))
    await wait(BEFORE)
    balancer.targets = [freshPort, otherPort]
    const leaving = balancer.open(oldPort)
    const swapAt = performance.now()
    process.kill(old.pid, signals[swap])
    let away = 0
    if (quiet) {
      await until(() => balancer.open(oldPort) <= leaving / 2, SWAP_TIMEOUT)
      away = clients - (await progress(0)).here
      await publisher.call('burst', BURST)
    }
    const ended = await until(() => old.ended, SWAP_TIMEOUT)
    const swapTime = performance.now() - swapAt
    await until(() => balancer.open(oldPort) === 0, SWAP_TIMEOUT) // clients that read slowly still have to learn it
    await until(async () => (await progress(0)).here === clients, SWAP_TIMEOUT)
    if (quiet) await publisher.call('start', QUIET_RATE)
    await wait(AFTER)

    const published = await publisher.call('stop')
    let received = -1
    let receivedAt = performance.now()
    const stoppedAt = performance.now()
    const allTold = await until(async () => {
      const now = await progress(published.total - 1)
      if (now.received > received) receivedAt = performance.now()
      received = now.received
      return now.done === clients || performance.now() - receivedAt > STALLED
    }, ARRIVE_TIMEOUT)
    console.error(`  ${published.total} publications; the last delivery ${Math.round(receivedAt - stoppedAt)} ms after the end`)
    await wait(LATE)
    const results = await Promise.all(groups.map(group => group.call('result', published)))
    if (!ended) console.error(`  the instance has not ended ${SWAP_TIMEOUT / 1_000} s after ${signals[swap]}`)
    if (quiet) console.error(`  ${away} clients were away at the burst`)
    for (const example of results.flatMap(({ examples }) => examples).slice(0, 3)) console.error(`  ${JSON.stringify(example)}`)
    const names = ['moved', 'recovered', 'lost', 'twice', 'disordered', 'wrong', 'gone']
    return {
      ...Object.fromEntries(names.map(name => [name, total(results, name)])),
      expected: (published.total - published.refused.length) * clients,
      refused: published.refused.length,
      allTold,
      blinds: quiet ? [] : results.flatMap(({ blinds }) => blinds).sort((a, b) => a - b),
      swapTime
    }
  } finally {
    balancer.stop()
    await Promise.all(children.map(child => child.stop()))
    await redis.stop()
  }
}

const HEADINGS = ['server', 'swap', 'traffic', 'clients moved', 'of them told to have recovered', 'deliveries lost', 'twice', 'out of order', 'told to have recovered, with a hole', 'not back', 'blind p50, ms', 'blind max, ms']

function cells ({ peer, swap, traffic, row }) {
  const { expected, lost, refused, allTold, blinds } = row
  return [
    peer.name,
    `${swap} (${signals[swap]})`,
    traffic === 'quiet' ? traffic : `${traffic}/s`,
    format(row.moved),
    format(row.recovered),
    `${format(lost)} of ${format(expected)}${lost > 0 ? ` (${(100 * lost / expected).toFixed(1)} %)` : ''}${refused > 0 ? `, ${format(refused)} publications refused` : ''}${allTold ? '' : `, some still on their way after ${ARRIVE_TIMEOUT / 1_000} s: this machine can not carry the rate`}`,
    ...['twice', 'disordered', 'wrong', 'gone'].map(name => format(row[name])),
    ...[blinds[blinds.length >> 1], blinds.at(-1)].map(ms => ms === undefined ? '' : format(Math.round(ms)))
  ]
}

function format (number) {
  return number.toLocaleString('en-US')
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1)) // takes the children along
const loads = []
const print = line => console.log(`| ${line.join(' | ')} |`)
print(HEADINGS)
print(HEADINGS.map((_, i) => i < 3 ? '---' : '---:'))
for (const traffic of options.traffic.split(',')) {
  for (const swap of options.swaps.split(',')) {
    for (const peer of chosen) {
      const startedAt = performance.now()
      const row = await run(peer, swap, traffic)
      loads.push(loadavg()[0])
      console.error(`${peer.id}, ${swap}, ${traffic}: lost ${row.lost}, ${Math.round(row.swapTime)} ms from ${signals[swap]} to its end, ${Math.round((performance.now() - startedAt) / 1_000)} s, load average ${loads.at(-1).toFixed(1)}`)
      print(cells({ peer, swap, traffic, row }))
    }
  }
}
console.error(`${clients} clients, ${availableParallelism()} cores, load average ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}, the benchmark's own included`)
