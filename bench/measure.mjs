// What run.mjs and compare.mjs measure of one peer. Every measurement has fresh processes.
import { setTimeout as wait } from 'node:timers/promises'
import { EndedError } from './child.mjs'
import { Cluster } from './cluster.mjs'

/** Before anything is measured, so that the code is compiled; also what runs once per publication. */
const WARM_UP = { rate: 200, seconds: 8 }
const QUICK_WARM_UP = { rate: 100, seconds: 0.2 }
/** Clients that come and go before: what only the first ones cost is not the others'. */
const IDLE_WARM_UP = 200
const ACCEPT_WARM_UP = 1_000
const QUICK_ACCEPT_WARM_UP = 20
/** How often as many as are measured come and go until the code of an upgrade is compiled. */
const ACCEPT_GROUPS = 3
/**
 * The search for the highest rate, in publications per second. `seconds` is the length of each step, `warmUp` that of
 * the warm-up before the first step of a process.
 */
const SATURATION = { first: 1_000, lowest: 16, highest: 65_536, seconds: 2.5, warmUp: 1.5, bisections: 3 }
const QUICK_SATURATION = { ...SATURATION, first: 200, highest: 400, seconds: 0.5, warmUp: 0.2, bisections: 1 }
/** ms after the last publication by which everything has arrived at a rate that can be carried. */
const CARRIED = 500

/** A process that ended by itself is a result; whatever else goes wrong is not. */
export async function unlessEnded (measure, ended) {
  try {
    return await measure()
  } catch (error) {
    if (!(error instanceof EndedError)) throw error
    console.error(`  ${error.message}`)
    return ended
  }
}

/** Two servers, all clients in one room; one row per rate. */
export async function fanOut (peer, { rates, seconds, clients, quick, ...setup }) {
  const cluster = new Cluster(peer, setup)
  const rows = []
  try {
    await unlessEnded(async () => {
      await cluster.connect({ clients })
      await cluster.publish(quick ? QUICK_WARM_UP : WARM_UP)
      for (const rate of rates) rows.push(await cluster.publish({ rate, seconds }))
    })
  } finally {
    await cluster.stop()
  }
  while (rows.length < rates.length) rows.push({ ended: true })
  return rows
}

/** One server, clients that are subscribed and silent: bytes of each. */
export async function idle (peer, { idleClients, ...setup }) {
  const cluster = new Cluster(peer, { ...setup, instances: 1, execArgv: ['--expose-gc'] })
  const memory = async () => (await cluster.call('memory'))[0]
  try {
    return await unlessEnded(async () => {
      await comeAndGo(cluster, Math.min(IDLE_WARM_UP, idleClients))
      const before = await memory()
      await cluster.connect({ clients: idleClients, publishing: false })
      const after = await memory()
      if (await cluster.load.call('closed') > 0) throw new Error(`${peer.name} closed idle connections`)
      return { rss: (after.rss - before.rss) / idleClients, heap: (after.heap - before.heap) / idleClients }
    }, { ended: true })
  } finally {
    await cluster.stop()
  }
}

/**
 * Clients come to one server as fast as it takes them, each until it is subscribed. `youngCpu` is from the time when
 * the code was still being compiled.
 */
export async function accept (peer, { acceptClients, quick, ...setup }) {
  const cluster = new Cluster(peer, { ...setup, instances: 1 })
  try {
    return await unlessEnded(async () => {
      await comeAndGo(cluster, quick ? QUICK_ACCEPT_WARM_UP : ACCEPT_WARM_UP)
      const { cpu: youngCpu } = await come(cluster, acceptClients)
      await go(cluster)
      for (let i = 1; i < (quick ? 1 : ACCEPT_GROUPS); i++) await comeAndGo(cluster, acceptClients)
      return { ...await come(cluster, acceptClients), youngCpu }
    }, { ended: true })
  } finally {
    await cluster.stop()
  }
}

/** `cpu`: us of the server for each. */
async function come (cluster, clients) {
  const before = await cluster.figures()
  const time = await cluster.connect({ clients, publishing: false })
  const after = await cluster.figures()
  return { perSecond: 1_000 * clients / time, cpu: (after.cpu - before.cpu) / clients }
}

async function go (cluster) {
  await cluster.load.call('disconnect')
  while ((await cluster.call('connections'))[0] > 0) await wait(20)
}

async function comeAndGo (cluster, clients) {
  await come(cluster, clients)
  await go(cluster)
}

/**
 * The highest rate that arrives everywhere, once and in time, in deliveries per second. It is doubled until it does not
 * arrive, then searched by halves. 0: there is none.
 */
export async function saturation (peer, { clients, quick, ...setup }) {
  const steps = quick ? QUICK_SATURATION : SATURATION
  const tries = new Tries(peer, clients, steps, setup)
  let carried = 0
  let tooMuch = steps.first
  try {
    while (tooMuch <= steps.highest && await tries.carries(tooMuch)) [carried, tooMuch] = [tooMuch, tooMuch * 2]
    if (tooMuch > steps.highest) return { deliveries: carried * clients, limited: true }
    while (carried === 0 && tooMuch >= steps.lowest) {
      if (await tries.carries(tooMuch / 2)) carried = tooMuch / 2
      else tooMuch /= 2
    }
    for (let i = 0; i < steps.bisections && carried > 0; i++) {
      const between = Math.round((carried + tooMuch) / 2)
      if (await tries.carries(between)) carried = between
      else tooMuch = between
    }
    return { deliveries: carried * clients }
  } finally {
    await tries.stop()
  }
}

/** Steps of the search. After one that failed the next one has fresh processes. */
class Tries {
  #peer
  #clients
  #steps
  #setup
  #cluster

  constructor (peer, clients, steps, setup) {
    this.#peer = peer
    this.#clients = clients
    this.#steps = steps
    this.#setup = setup
  }

  /** Too much is only what fails twice: the machine may have had something else to do. */
  async carries (rate) {
    return await this.#carriesOnce(rate) || this.#carriesOnce(rate)
  }

  async #carriesOnce (rate) {
    const carried = await unlessEnded(async () => {
      this.#cluster ??= await this.#start()
      const { seconds } = this.#steps
      const published = await this.#cluster.publish({ rate, seconds, patience: 2 * CARRIED })
      const { expected, received, disordered, refused, closed, time } = published
      return received === expected && disordered + refused + closed === 0 && time <= seconds * 1_000 + CARRIED
    }, false)
    if (!carried) await this.stop()
    return carried
  }

  async #start () {
    const cluster = this.#cluster = new Cluster(this.#peer, this.#setup)
    await cluster.connect({ clients: this.#clients })
    await cluster.publish({ rate: 100, seconds: this.#steps.warmUp })
    return cluster
  }

  async stop () {
    await this.#cluster?.stop()
    this.#cluster = undefined
  }
}
