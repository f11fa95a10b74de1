// Measures this plugin and its peers side by side and prints one Markdown table. See README.md.
import { availableParallelism, loadavg } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Child, EndedError } from './child.mjs'
import { startGoogle } from './google.mjs'
import { startRedis } from './redis.mjs'
import { printTable } from './table.mjs'

const peers = [
  { id: 'bare-ws', name: 'bare `ws`, one write per turn', server: 'bare-ws', wire: 'plain' },
  { id: 'fastify-websocket', name: '`@fastify/websocket` by hand', server: 'fastify-websocket', wire: 'plain' },
  { id: 'socket-io', name: 'Socket.IO + Redis adapter', server: 'socket-io', wire: 'socket.io' },
  { id: 'plugin', name: 'this plugin', server: 'plugin', wire: 'plain' },
  { id: 'plugin-history', name: 'this plugin, with history', server: 'plugin', wire: 'plain', env: { BENCH_HISTORY: '1' } },
  { id: 'plugin-telemetry', name: 'this plugin, metrics sent every 10 s', server: 'plugin', wire: 'plain', google: true }
]
/** Left out unless it is asked for. */
const EXTRA = 'plugin-telemetry'

/** Before anything is measured, so that the code is compiled. */
const WARM_UP = { rate: 100, seconds: 4 }
const QUICK_WARM_UP = { rate: 100, seconds: 0.2 }
/** Clients that come and go before the idle ones: what only the first ones cost is not theirs. */
const WARM_UP_CLIENTS = 200

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string', default: peers.map(({ id }) => id).filter(id => id !== EXTRA).join() },
    rounds: { type: 'string', default: '3' },
    clients: { type: 'string', default: '500' },
    rates: { type: 'string', default: '50,400,1000' },
    seconds: { type: 'string', default: '5' },
    idle: { type: 'string', default: '4000' },
    plugin: { type: 'string', default: fileURLToPath(new URL('../dist/index.js', import.meta.url)) },
    profile: { type: 'string' }
  }
})
const quick = { rounds: '1', clients: '20', rates: '50', seconds: '1', idle: '100' }
const options = values.quick ? { ...values, ...quick } : values
const chosen = peers.filter(({ id }) => options.peers.split(',').includes(id))
const rates = options.rates.split(',').filter(rate => rate !== '').map(Number)
const [rounds, clients, seconds, idleClients] = [options.rounds, options.clients, options.seconds, options.idle].map(Number)

function startServer ({ server, env, google: observed }, redis, execArgv = []) {
  return new Child(`servers/${server}.mjs`, { env: { REDIS_URL: redis.url, BENCH_PLUGIN: options.plugin, ...env, ...observed && google.env }, execArgv })
}

/** Two servers, all clients in one room; one row per rate. */
async function fanOut (peer, redis) {
  const execArgv = options.profile === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', options.profile]
  const servers = [startServer(peer, redis, execArgv), startServer(peer, redis, execArgv)]
  const load = new Child('load.mjs')
  const figures = async () => {
    const [one, two] = await Promise.all(servers.map(server => server.call('figures')))
    return { cpu: one.cpu + two.cpu, refused: one.refused + two.refused }
  }
  const rows = []
  try {
    const ports = await Promise.all(servers.map(server => server.call('port')))
    await load.call('connect', { ports, clients, wireName: peer.wire, publishing: true })
    await load.call('publish', options.quick ? QUICK_WARM_UP : WARM_UP)
    for (const rate of rates) {
      const before = await figures()
      const row = await load.call('publish', { rate, seconds })
      const after = await figures()
      rows.push({ ...row, serverCpu: after.cpu - before.cpu, refused: after.refused - before.refused })
    }
  } catch (error) {
    if (!(error instanceof EndedError)) throw error
    console.error(`  ${error.message}`)
    while (rows.length < rates.length) rows.push({ ended: true })
  } finally {
    await Promise.all([load, ...servers].map(child => child.stop()))
  }
  return rows
}

/** One server, clients that are subscribed and silent. */
async function idle (peer, redis) {
  const server = startServer(peer, redis, ['--expose-gc'])
  const load = new Child('load.mjs')
  try {
    const connect = { ports: [await server.call('port')], wireName: peer.wire, publishing: false }
    await load.call('connect', { ...connect, clients: Math.min(WARM_UP_CLIENTS, idleClients) })
    await load.call('disconnect')
    while (await server.call('connections') > 0) await wait(20)
    const before = await server.call('memory')
    await load.call('connect', { ...connect, clients: idleClients })
    const after = await server.call('memory')
    if (await load.call('closed') > 0) throw new Error(`${peer.name} closed idle connections`)
    return { rss: (after.rss - before.rss) / idleClients, heap: (after.heap - before.heap) / idleClients }
  } catch (error) {
    if (!(error instanceof EndedError)) throw error
    console.error(`  ${error.message}`)
    return { ended: true }
  } finally {
    await Promise.all([load.stop(), server.stop()])
  }
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1)) // takes the children along
const [load] = loadavg()
if (load > availableParallelism() / 4) console.error(`This machine has other work to do (load average ${load.toFixed(1)}): latencies will be too high, and rates may be lost that it could carry.`)
const results = chosen.map(peer => ({ peer, rounds: [] }))
const redis = await startRedis()
const google = await startGoogle()
try {
  for (let round = 1; round <= rounds; round++) {
    for (const { peer, rounds: measured } of results) {
      console.error(`round ${round} of ${rounds}: ${peer.id}`)
      measured.push({ rows: rates.length > 0 ? await fanOut(peer, redis) : [], idle: idleClients > 0 ? await idle(peer, redis) : undefined })
    }
  }
} finally {
  google.stop()
  await redis.stop()
}
if (chosen.some(({ google: observed }) => observed)) console.error(`metrics came ${google.exports()} times`)
printTable(results, rates, idleClients)
