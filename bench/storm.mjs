// Thousands of clients come back within two seconds: how long does it take, and what do those feel that are connected?
// See README.md.
import { setTimeout as wait } from 'node:timers/promises'
import { Child } from './child.mjs'
import { Cluster, defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { unlessEnded } from './measure.mjs'
import { format, median, milliseconds, sum } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { choosePeers } from './peers.mjs'
import { startRedis } from './redis.mjs'

/** ms in which all must be back. */
const TIMEOUT = 60_000

const options = readOptions({
  peers: 'fastify-websocket,socket-io,plugin,plugin-json', rounds: 3, clients: 500, rate: 50, storm: 5_000, within: 2_000, channels: 100, before: 4, plugin: defaultPlugin
}, { rounds: 1, clients: 20, storm: 100, within: 500, before: 1 })
/** `before`: seconds of each of the quiet times that it is compared with. */
const { rounds, clients, rate, storm: count, within, channels, before } = options

async function storm (peer, redis) {
  const cluster = new Cluster(peer, { redis, plugin: options.plugin })
  const returning = new Child('storm-clients.mjs')
  // The first server publishes, the second one has the clients.
  const [, server] = cluster.servers
  const cpu = async () => (await server.call('figures')).cpu
  try {
    return await unlessEnded(async () => {
      await cluster.connect({ clients, on: [1] })
      await cluster.publish({ rate, seconds: before })
      const usual = await cluster.publish({ rate, seconds: before })
      const port = await server.call('port')
      const quietCpu = await quiet(cluster, cpu)

      const refusedBefore = (await cluster.figures()).refused
      await cluster.load.call('start', rate)
      await server.call('watch')
      const startedAt = performance.now()
      const cpuBefore = await cpu()
      const result = await returning.call('storm', { port, wireName: peer.wire, count, within, channels, timeout: TIMEOUT })
      const stormCpu = await cpu() - cpuBefore - quietCpu * (performance.now() - startedAt)
      const { delay } = await server.call('seen')
      const watched = await cluster.load.call('stop')
      const refusals = (await cluster.figures()).refused - refusedBefore
      const dropped = await returning.call('closed')
      return {
        ...result,
        dropped,
        usual: usual.p99,
        cpu: stormCpu / result.back,
        delay50: delay.p50,
        delay99: delay.p99,
        delayMax: delay.max,
        refusals,
        ...figures(watched)
      }
    }, { ended: true })
  } finally {
    await Promise.all([cluster.stop(), returning.stop()])
  }
}

/** us of CPU that the server takes per ms when nobody comes. */
async function quiet (cluster, cpu) {
  await cluster.load.call('start', rate)
  const startedAt = performance.now()
  const cpuBefore = await cpu()
  await wait(before * 1_000)
  const perMs = (await cpu() - cpuBefore) / (performance.now() - startedAt)
  await cluster.load.call('stop')
  return perMs
}

function figures ({ expected, received, disordered, p50, p99, max, closed }) {
  return { expected, received, disordered, p50, p99, max, closed }
}

const HEADINGS = ['server', 'all back after, s', 'refused with 503', 'other failed attempts', 'server CPU per upgrade, us', 'event loop p50, ms', 'event loop p99, ms', 'event loop max, ms', 'p99 before, ms', 'p50, ms', 'p99, ms', 'max, ms', 'lost', 'latest first attempt, ms']

function cells (peer, rows) {
  const whole = rows.filter(({ ended }) => !ended)
  if (whole.length === 0) return [peer.name, `process ended in ${rows.length} of ${rows.length}`, ...new Array(HEADINGS.length - 2).fill('')]
  const of = name => median(whole.map(row => row[name]))
  return [
    peer.name,
    [allBack(whole), ...whole.length < rows.length ? [`process ended in ${rows.length - whole.length} of ${rows.length}`] : []].join(', '),
    format(sum(whole, 'refused')),
    format(sum(whole, 'failed')),
    of('cpu').toFixed(0),
    ...['delay50', 'delay99', 'delayMax', 'usual', 'p50', 'p99', 'max'].map(name => milliseconds(of(name))),
    lost(whole),
    milliseconds(of('late'))
  ]
}

function allBack (rows) {
  const away = rows.filter(({ back, dropped }) => back - dropped < count)
  if (away.length > 0) return `${format(count * away.length - sum(away, 'back') + sum(away, 'dropped'))} not back in ${away.length} of ${rows.length}`
  return (median(rows.map(({ time }) => time)) / 1_000).toFixed(1)
}

function lost (rows) {
  const [expected, received, refusals, disordered, closed] = ['expected', 'received', 'refusals', 'disordered', 'closed'].map(name => sum(rows, name))
  return [
    `${format(expected - received)} of ${format(expected)}`,
    ...refusals > 0 ? [`${format(refusals)} publications refused`] : [],
    ...disordered > 0 ? [`${format(disordered)} twice or out of order`] : [],
    ...closed > 0 ? [`${format(closed)} clients closed`] : []
  ].join(', ')
}

endByExit()
needConnections(clients + count)
const results = choosePeers(options.peers).map(peer => ({ peer, rows: [] }))
describeMachine()
const redis = await startRedis()
try {
  for (let round = 1; round <= rounds; round++) {
    for (const { peer, rows } of results) {
      console.error(`round ${round} of ${rounds}: ${peer.id}`)
      rows.push(await storm(peer, redis))
    }
  }
} finally {
  await redis.stop()
}
printMarkdown(HEADINGS, results.map(({ peer, rows }) => cells(peer, rows)), 1)
