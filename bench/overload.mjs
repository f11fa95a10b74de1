// Publishes faster than the machine can carry: who lives, what is lost, and when is all as before?
// Prints one Markdown table. See README.md.
import { Cluster, defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { unlessEnded } from './measure.mjs'
import { format, list, milliseconds, sum } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { choosePeers } from './peers.mjs'
import { startRedis } from './redis.mjs'

/** Publications per second before and after, seconds of each. */
const QUIET = { rate: 50, seconds: 4, afterSeconds: 15 }
const QUICK_QUIET = { rate: 50, seconds: 1, afterSeconds: 3 }
/** Latencies are as usual when they are not above so many times the 99th percentile of before, or so many ms. */
const USUAL_TIMES = 3
const USUAL_MS = 50

const options = readOptions({
  peers: 'bare-ws,uws,fastify-websocket,socket-io,plugin,plugin-history,plugin-json,plugin-json-history', clients: 500, rates: '2000,4000,8000', seconds: 5, plugin: defaultPlugin
}, { clients: 20, rates: '2000', seconds: 1 })
const quiet = options.quick ? QUICK_QUIET : QUIET
const { clients, seconds } = options

async function overload (peer, rate, redis) {
  const cluster = new Cluster(peer, { redis, plugin: options.plugin })
  try {
    return await unlessEnded(async () => {
      await cluster.connect({ clients })
      await cluster.publish({ rate: quiet.rate, seconds: quiet.seconds })
      const before = await cluster.publish({ rate: quiet.rate, seconds: quiet.seconds })
      const usual = Math.max(USUAL_MS, USUAL_TIMES * before.p99)
      const { rss } = await cluster.figures()
      const refusedBefore = (await cluster.figures()).refused
      await cluster.call('watch')
      const result = await cluster.load.call('overload', { rate, seconds, afterRate: quiet.rate, afterSeconds: quiet.afterSeconds, usual })
      const peak = sum(await cluster.call('seen'), 'peak')
      const { refused } = await cluster.figures()
      return { ...result, usual, refused: refused - refusedBefore, rss, peak }
    }, { ended: true })
  } finally {
    await cluster.stop()
  }
}

const HEADINGS = ['server', 'load', 'processes lived', 'delivered, of expected', 'publications refused', 'clients closed (code)', 'twice or out of order', 'p50, ms', 'p99, ms', 'memory before, MiB', 'most memory, MiB', 'as usual again after, s']
const mebibytes = bytes => format(Math.round(bytes / 1_048_576))

function cells (peer, rate, row) {
  const first = [peer.name, `${format(rate)}/s`]
  if (row.ended) return [...first, '**no**', ...new Array(HEADINGS.length - 3).fill('')]
  const { expected, received, refused, closed, disordered, p50, p99, rss, peak, recoveredAfter } = row
  return [
    ...first,
    'yes',
    `${format(received)} of ${format(expected)} (${(100 * received / expected).toFixed(1)} %)`,
    format(refused),
    Object.entries(closed).map(([code, count]) => `${format(count)} (${code})`).join(', ') || '0',
    format(disordered),
    milliseconds(p50),
    milliseconds(p99),
    mebibytes(rss),
    mebibytes(peak),
    recoveredAfter === undefined ? `not within ${quiet.afterSeconds}` : (recoveredAfter / 1_000).toFixed(1)
  ]
}

endByExit()
needConnections(clients)
const peers = choosePeers(options.peers)
describeMachine()
const redis = await startRedis()
const rows = []
try {
  for (const peer of peers) {
    for (const rate of list(options.rates).map(Number)) {
      console.error(`${peer.id}, ${rate}/s`)
      rows.push(cells(peer, rate, await overload(peer, rate, redis)))
    }
  }
} finally {
  await redis.stop()
}
printMarkdown(HEADINGS, rows, 2)
