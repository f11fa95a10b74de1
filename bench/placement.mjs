// Which instances have somebody in a channel: the formula, and a simulation that checks it.
import { importSource } from './source.mjs'

export const { instancesReached } = await importSource('lib/cli/plan/placement.ts')

/** Numbers from 0 up to 1 that are the same for the same seed (mulberry32). */
export function seededRandom (seed) {
  let state = seed
  return () => {
    state = state + 0x6D2B79F5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return ((mixed ^ mixed >>> 14) >>> 0) / 4_294_967_296
  }
}

/**
 * The server of each connection. 'chance': each is placed by itself, as the formula has it. 'full': all servers have
 * equally many, as with a service that is at its limit everywhere.
 */
export function placeConnections ({ instances, connections }, random, how = 'chance') {
  if (how === 'chance') return Array.from({ length: connections }, () => Math.floor(random() * instances))
  const servers = Array.from({ length: connections }, (_, i) => i % instances)
  for (let i = connections - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    [servers[i], servers[other]] = [servers[other], servers[i]]
  }
  return servers
}

/** The channels of connection `i`: all channels have equally many members, and hardly two the same ones. */
export function channelsOf (i, { channels, perConnection }) {
  const round = Math.floor(i / channels)
  return Array.from({ length: perConnection }, (_, j) => (i + j * (round + 1)) % channels)
}

/** Of each channel, how many instances have somebody in it. */
export function drawReach (app, random, how) {
  const reached = Array.from({ length: app.channels }, () => new Set())
  placeConnections(app, random, how).forEach((server, i) => {
    for (const channel of channelsOf(i, app)) reached[channel].add(server)
  })
  return reached.map(servers => servers.size)
}
