import { createRequire } from 'node:module'
import { list } from './numbers.mjs'

const history = { BENCH_HISTORY: '1' }

export const peers = [
  { id: 'bare-ws', name: 'bare `ws`, one write per turn', server: 'bare-ws', wire: 'plain' },
  { id: 'uws', name: 'uWebSockets.js, its own topics', server: 'uws', wire: 'plain' },
  { id: 'fastify-websocket', name: '`@fastify/websocket` by hand', server: 'fastify-websocket', wire: 'plain' },
  { id: 'socket-io', name: 'Socket.IO + Redis adapter', server: 'socket-io', wire: 'socket.io' },
  { id: 'plugin', name: 'this plugin', server: 'plugin', wire: 'plain' },
  { id: 'plugin-except', name: 'this plugin, `except` the publisher', server: 'plugin', wire: 'plain', env: { BENCH_EXCEPT: '1' } },
  { id: 'plugin-history', name: 'this plugin, with history', server: 'plugin', wire: 'plain', env: history },
  { id: 'plugin-json', name: 'this plugin, SDK in JSON', server: 'plugin', wire: 'json' },
  { id: 'plugin-json-history', name: 'this plugin, SDK in JSON, with history', server: 'plugin', wire: 'json', env: history },
  { id: 'plugin-json-delay', name: 'this plugin, SDK in JSON, `batchDelay: 5`', server: 'plugin', wire: 'json', env: { BENCH_BATCH_DELAY: '5' } },
  { id: 'plugin-protobuf', name: 'this plugin, SDK in Protobuf', server: 'plugin', wire: 'protobuf' },
  { id: 'plugin-protobuf-history', name: 'this plugin, SDK in Protobuf, with history', server: 'plugin', wire: 'protobuf', env: history },
  { id: 'plugin-returned', name: 'this plugin, `onMessage` returns its publish', server: 'plugin', wire: 'plain', env: { BENCH_RETURN: '1' } },
  { id: 'plugin-telemetry', name: 'this plugin, metrics sent every 10 s', server: 'plugin', wire: 'plain', google: true }
]
/** Left out unless they are asked for. */
const EXTRA = ['plugin-returned', 'plugin-telemetry', 'plugin-except']

export const allPeers = peers.map(({ id }) => id).filter(id => !EXTRA.includes(id)).join()

/** The peers of these ids, with commas between; without those that can not run here. */
export function choosePeers (ids) {
  const wanted = list(ids)
  const unknown = wanted.filter(id => !peers.some(peer => peer.id === id))
  if (unknown.length > 0) throw new Error(`no peer is called ${unknown.join(', ')}; there are ${peers.map(({ id }) => id).join(', ')}`)
  return peers.filter(({ id }) => wanted.includes(id) && (id !== 'uws' || hasUws()))
}

function hasUws () {
  try {
    loadUws()
    return true
  } catch (error) {
    console.error(`uws is left out, its addon can not be loaded (npm run bench:install): ${error.message.split('\n', 1)[0]}`)
    return false
  }
}

/**
 * uWebSockets.js has a folder of its own, filled by `npm run bench:install`: it is over 100 MB and brings its own `ws`.
 * This loads the addon itself. Where the addon does not fit, the package's entry would quietly use JavaScript instead.
 */
export function loadUws () {
  const { platform, arch, versions } = process
  return createRequire(new URL('uws/', import.meta.url))(`@trufflesuite/uws-js-unofficial/binaries/uws_${platform}_${arch}_${versions.modules}.node`)
}
