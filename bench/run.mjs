// Measures this plugin and its peers side by side and prints two Markdown tables. See README.md.
import { parseArgs } from 'node:util'
import { defaultPlugin } from './cluster.mjs'
import { startGoogle } from './google.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { accept, fanOut, idle, saturation } from './measure.mjs'
import { list } from './numbers.mjs'
import { allPeers, choosePeers } from './peers.mjs'
import { startRedis } from './redis.mjs'
import { printTables } from './table.mjs'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string', default: allPeers },
    rounds: { type: 'string', default: '3' },
    clients: { type: 'string', default: '500' },
    rates: { type: 'string', default: '50,400,1000' },
    seconds: { type: 'string', default: '5' },
    idle: { type: 'string', default: '4000' },
    accept: { type: 'string', default: '4000' },
    saturation: { type: 'string', default: '1' },
    plugin: { type: 'string', default: defaultPlugin },
    profile: { type: 'string' }
  }
})
const quick = { rounds: '1', clients: '20', rates: '50', seconds: '1', idle: '100', accept: '100' }
const options = values.quick ? { ...values, ...quick } : values
const rates = list(options.rates).map(Number)
const [rounds, clients, seconds, idleClients, acceptClients, searches] = ['rounds', 'clients', 'seconds', 'idle', 'accept', 'saturation'].map(name => Number(options[name]))

async function measure (peer, setup, round) {
  const execArgv = options.profile === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', options.profile]
  return {
    rows: rates.length > 0 ? await fanOut(peer, { ...setup, execArgv }) : [],
    accept: acceptClients > 0 ? await accept(peer, setup) : undefined,
    idle: idleClients > 0 ? await idle(peer, setup) : undefined,
    saturation: round <= searches ? await saturation(peer, setup) : undefined
  }
}

endByExit()
needConnections(Math.max(clients, idleClients, acceptClients))
const results = choosePeers(options.peers).map(peer => ({ peer, rounds: [] }))
describeMachine()
const redis = await startRedis()
const google = await startGoogle()
const setup = { redis, google, plugin: options.plugin, quick: options.quick, rates, seconds, clients, idleClients, acceptClients }
try {
  for (let round = 1; round <= rounds; round++) {
    for (const { peer, rounds: measured } of results) {
      console.error(`round ${round} of ${rounds}: ${peer.id}`)
      measured.push(await measure(peer, setup, round))
    }
  }
} finally {
  google.stop()
  await redis.stop()
}
if (results.some(({ peer }) => peer.google)) console.error(`metrics came ${google.exports()} times`)
printTables(results, { rates, idleClients, acceptClients, searches })
