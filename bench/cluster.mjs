import { fileURLToPath } from 'node:url'
import { Child } from './child.mjs'
import { sum } from './numbers.mjs'

/** The build that is measured unless another one is asked for. */
export const defaultPlugin = fileURLToPath(new URL('../dist/index.js', import.meta.url))

/** Instances of one peer, and the process that loads them. */
export class Cluster {
  servers
  load = new Child('load.mjs')
  #peer

  /** `plugin`: path of a build; `google`: what startGoogle gives, for peers that need it. */
  constructor (peer, { redis, plugin, google, instances = 2, execArgv = [] }) {
    this.#peer = peer
    const env = { REDIS_URL: redis.url, BENCH_PLUGIN: plugin, ...peer.env, ...peer.google && google.env }
    this.servers = Array.from({ length: instances }, () => new Child(`servers/${peer.server}.mjs`, { env, execArgv }))
  }

  /** Of all servers. */
  call (method) {
    return Promise.all(this.servers.map(server => server.call(method)))
  }

  /** Options as those of load.mjs. Returns the ms it took. */
  async connect (options) {
    return this.load.call('connect', { ports: await this.call('port'), wireName: this.#peer.wire, publishing: true, ...options })
  }

  /** What the load process says of one load, and what it cost the servers. */
  async publish (options) {
    const before = await this.figures()
    const row = await this.load.call('publish', options)
    const after = await this.figures()
    return { ...row, serverCpu: after.cpu - before.cpu, refused: after.refused - before.refused, rss: after.rss }
  }

  /** Of all servers together. */
  async figures () {
    const all = await this.call('figures')
    return { cpu: sum(all, 'cpu'), refused: sum(all, 'refused'), rss: sum(all, 'rss') }
  }

  async stop () {
    await Promise.all([this.load, ...this.servers].map(child => child.stop()))
  }
}
