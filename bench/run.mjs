// Measures this plugin and its peers side by side and prints two Markdown tables. See README.md.
import { defaultPlugin } from './cluster.mjs'
import { startGoogle } from './google.mjs'
import { describeMachine, endByExit, needConnections } from './machine.mjs'
import { accept, fanOut, idle, saturation } from './measure.mjs'
import { list } from './numbers.mjs'
import { readOptions } from './options.mjs'
import { allPeers, choosePeers } from './peers.mjs'
import { startRedis } from './redis.mjs'
import { printTables } from './table.mjs'

const options = readOptions({
  peers: allPeers, rounds: 3, clients: 500, rates: '50,400,1000', seconds: 5, idle: 4_000, accept: 4_000, saturation: 1, plugin: defaultPlugin, profile: undefined
}, { rounds: 1, clients: 20, rates: '50', seconds: 1, idle: 100, accept: 100 })
const rates = list(options.rates).map(Number)
const { rounds, clients, seconds, idle: idleClients, accept: acceptClients, saturation: searches } = options

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
