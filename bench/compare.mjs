// Measures two builds of this plugin in turn, such as a pull request's base and its head. Prints one Markdown table.
// See README.md.
import { buildBase } from './base-build.mjs'
import { defaultPlugin } from './cluster.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { printMarkdown } from './markdown.mjs'
import { accept, fanOut, idle } from './measure.mjs'
import { format, list, median } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { choosePeers } from './peers.mjs'
import { startRedis } from './redis.mjs'

const options = readOptions({
  base: undefined,
  'base-plugin': undefined,
  plugin: defaultPlugin,
  peers: 'plugin,plugin-json',
  rounds: 5,
  clients: 500,
  rates: '50,400,1000',
  seconds: 3,
  idle: 4_000,
  accept: 4_000
}, { rounds: 1, clients: 20, rates: '50', seconds: 1, idle: 100, accept: 100 })
const rates = list(options.rates).map(Number)
const { rounds, clients, seconds, idle: idleClients, accept: acceptClients } = options

/** Figures of one build by the name of their row; undefined where the process ended or nothing arrived. */
async function measure (peer, setup) {
  const figures = {}
  const rows = rates.length > 0 ? await fanOut(peer, setup) : []
  for (const [i, rate] of rates.entries()) {
    const { ended, serverCpu, received, expected, disordered, p50, p99 } = rows[i]
    const load = `at ${format(rate)}/s`
    figures[`CPU per delivery ${load}, us`] = ended || received === 0 ? undefined : serverCpu / received
    figures[`p50 ${load}, ms`] = ended ? undefined : p50
    figures[`p99 ${load}, ms`] = ended ? undefined : p99
    if (ended) console.error(`  ${load} the process ended`)
    else if (expected !== received || disordered > 0) console.error(`  ${load} ${expected - received} of ${expected} lost, ${disordered} twice or out of order`)
  }
  if (acceptClients > 0) figures['CPU per upgrade, us'] = (await accept(peer, setup)).cpu
  if (idleClients > 0) figures['memory per idle connection, KiB'] = (await idle(peer, setup)).rss / 1_024
  return figures
}

/**
 * Each ratio is of one round, so that what else the machine does meets both builds. What was too little to be measured
 * has no ratio.
 */
function rowsOf ({ peer, base, head }) {
  return Object.keys(base[0]).map(name => {
    const pairs = base.map((figures, i) => [figures[name], head[i][name]]).filter(pair => pair.every(figure => figure > 0))
    if (pairs.length === 0) return [peer.name, name, '', '', '', '']
    const ratios = pairs.map(([one, other]) => other / one).sort((a, b) => a - b)
    const middle = side => median(pairs.map(pair => pair[side])).toFixed(1)
    return [peer.name, name, middle(0), middle(1), median(ratios).toFixed(2), `${ratios[0].toFixed(2)} to ${ratios.at(-1).toFixed(2)}`]
  })
}

endByExit()
needConnections(Math.max(clients, idleClients, acceptClients))
if ((options.base === undefined) === (options['base-plugin'] === undefined)) throw new Error('what is it to be compared with? --base with a git ref, or --base-plugin with the path of a build')
const base = options.base === undefined ? { commit: options['base-plugin'], plugin: options['base-plugin'], remove () {} } : await buildBase(options.base)
const results = choosePeers(options.peers).map(peer => ({ peer, base: [], head: [] }))
describeMachine()
console.error(`base: ${base.commit}`)
const redis = await startRedis()
const setup = { redis, quick: options.quick, rates, seconds, clients, idleClients, acceptClients }
try {
  for (let round = 1; round <= rounds; round++) {
    // Who comes second must not always be the same.
    const order = round % 2 === 1 ? ['base', 'head'] : ['head', 'base']
    for (const result of results) {
      for (const side of order) {
        console.error(`round ${round} of ${rounds}: ${result.peer.id}, ${side}`)
        result[side].push(await measure(result.peer, { ...setup, plugin: side === 'base' ? base.plugin : options.plugin }))
      }
    }
  }
} finally {
  await redis.stop()
  base.remove()
}
printMarkdown(['server', 'figure', 'base', 'head', 'head / base', 'of all rounds'], results.flatMap(rowsOf), 2)
