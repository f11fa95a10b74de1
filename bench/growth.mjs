// How cost grows with clients, channels and instances. Prints a Markdown table for each and draws growth.svg.
// See README.md.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Cluster, defaultPlugin } from './cluster.mjs'
import { drawGrowth } from './growth-plot.mjs'
import { describeMachine, endByExit, maxConnections } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { unlessEnded } from './measure.mjs'
import { format, list, milliseconds } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { choosePeers } from './peers.mjs'
import { startRedis } from './redis.mjs'

const options = readOptions({
  peers: 'bare-ws,uws,plugin,plugin-json',
  clients: '100,500,1000,2500,5000',
  'clients-rate': 20,
  channels: '1,10,100,1000,10000',
  'channels-rate': 100,
  instances: '1,2,3,4',
  'instances-rate': 50,
  seconds: 5,
  plugin: defaultPlugin,
  plot: fileURLToPath(new URL('growth.svg', import.meta.url))
}, { clients: '10,20', channels: '1,20', instances: '1,2', 'clients-rate': 50, 'channels-rate': 50, seconds: 1 })
/** Clients where it is something else that grows. */
const CLIENTS = options.quick ? 10 : 1_000
/** Seconds before what is measured. */
const WARM_UP = 4
const QUICK_WARM_UP = 0.2
const { seconds } = options

const scales = [
  { name: 'clients', setup: clients => ({ clients, channels: 1, instances: 2 }), per: 'received', unit: 'delivery' },
  // With more channels a publication has fewer deliveries, so that those say nothing about its cost.
  { name: 'channels', setup: channels => ({ clients: CLIENTS, channels, instances: 2 }), per: 'publications', unit: 'publication' },
  { name: 'instances', setup: instances => ({ clients: CLIENTS, channels: 1, instances }), per: 'received', unit: 'delivery' }
]

async function measure (peer, { clients, channels, instances }, rate, redis) {
  const cluster = new Cluster(peer, { redis, plugin: options.plugin, instances })
  try {
    return await unlessEnded(async () => {
      await cluster.connect({ clients, channels })
      await cluster.publish({ rate, seconds: options.quick ? QUICK_WARM_UP : WARM_UP })
      return await cluster.publish({ rate, seconds })
    }, { ended: true })
  } finally {
    await cluster.stop()
  }
}

function cells ({ peer, value, row, per }) {
  if (row.ended) return [format(value), peer.name, 'process ended', '', '', '', '', '']
  const { serverCpu, expected, received, refused, disordered, closed, p50, p99, rss, time } = row
  const wrong = [[expected - received, 'lost'], [refused, 'publications refused'], [disordered, 'twice or out of order'], [closed, 'clients closed']]
  return [
    format(value),
    peer.name,
    (serverCpu / row[per]).toFixed(1),
    (serverCpu / time / 10).toFixed(0), // us per ms, in percent
    `${format(received)} of ${format(expected)}${wrong.filter(([count]) => count > 0).map(([count, name]) => `, ${format(count)} ${name}`).join('')}`,
    milliseconds(p50),
    milliseconds(p99),
    (rss / 1_048_576).toFixed(0)
  ]
}

endByExit()
const peers = choosePeers(options.peers)
describeMachine()
const redis = await startRedis()
const panels = []
try {
  for (const { name, setup, per, unit } of scales) {
    const all = list(options[name]).map(Number)
    const possible = all.filter(value => setup(value).clients <= maxConnections())
    if (possible.length < all.length) console.error(`${name}: ${all.filter(value => !possible.includes(value)).join(', ')} left out, ulimit -Hn allows ${maxConnections()} connections`)
    if (possible.length === 0) continue
    const rate = options[`${name}-rate`]
    const results = []
    for (const value of possible) {
      for (const peer of peers) {
        console.error(`${name} ${value}: ${peer.id}`)
        results.push({ peer, value, per, row: await measure(peer, setup(value), rate, redis) })
      }
    }
    printMarkdown([name, 'server', `CPU of all servers per ${unit}, us`, 'CPU of all servers, % of one core', 'deliveries, of expected', 'p50, ms', 'p99, ms', 'memory of all servers, MiB'], results.map(cells), 2)
    console.log('')
    panels.push({ title: `${name}, at ${format(rate)} publications/s`, unit: `us per ${unit}`, results })
  }
} finally {
  await redis.stop()
}
writeFileSync(options.plot, drawGrowth(panels, peers))
console.error(`drawn: ${options.plot}`)
