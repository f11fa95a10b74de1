import { setMaxListeners } from 'node:events'
import { RedisUnavailableError } from '../../model/errors.ts'
import { BUFFERS, COMMAND_TIMEOUT, withDeadline } from './commands.ts'
import type { RedisArgument, RedisCommands } from './commands.ts'
import { closeWithin, describeError, newCluster, reconnectDelay, watchAnswers } from './link.ts'
import type { RedisClient, RedisCluster } from './link.ts'
import { loadScripts } from './scripts.ts'
import type { RedisSource } from '../../options/redis-source.ts'

/** Sends each command to the node that owns its key. */
export class ClusterCommands implements RedisCommands {
  readonly publishCommand = 'SPUBLISH'
  reason = 'not connected yet'
  readonly #cluster: RedisCluster
  readonly #watched = new WeakSet<RedisClient>()
  #ready = false
  #closed = false
  readonly #ended = new AbortController()

  constructor (source: RedisSource & { kind: 'cluster' | 'cluster-client' }) {
    setMaxListeners(0, this.#ended.signal) // one for every link
    this.#cluster = newCluster(source, this.#ended.signal)
    // An 'error' event without a listener would end the process. What matters of it comes out of the command that
    // fails.
    this.#cluster.on('error', (error: unknown) => { this.reason = describeError(error) })
  }

  get ready (): boolean { return this.#ready }

  /** Unlike a single client, node-redis' cluster does not try again when no node answers at first. */
  open (changed: () => void, retries = 0): void {
    this.#cluster.connect().then(() => {
      if (this.#closed) return
      this.#ready = true
      changed()
    }, (error: unknown) => {
      this.reason = describeError(error)
      if (!this.#closed) setTimeout(() => this.#closed || this.open(changed, retries + 1), reconnectDelay(retries)).unref()
    })
  }

  send (key: string, args: RedisArgument[], buffers = false): Promise<unknown> {
    if (!this.#ready) return Promise.reject(new RedisUnavailableError(this.reason))
    return withDeadline(this.#send(key, args, buffers, Date.now() + COMMAND_TIMEOUT))
  }

  async #send (key: string, args: RedisArgument[], buffers: boolean, deadline: number): Promise<unknown> {
    // The cluster waits for a node that is away, without limit, but a command must not take effect long after its
    // caller was told that it failed.
    const node = await this.#cluster.getNodeClientForKey(key, false) as RedisClient
    if (Date.now() >= deadline) throw new RedisUnavailableError('its node did not come back in time')
    this.#watch(node)
    return this.#cluster.sendCommand(key, false, args, buffers ? BUFFERS : undefined)
  }

  #watch (node: RedisClient): void {
    if (this.#watched.has(node)) return
    this.#watched.add(node)
    const load = () => loadScripts(args => node.sendCommand(args, { asap: true }))
    load()
    node.on('ready', load) // it may be another server by now, or one that has forgotten them
    watchAnswers(node, () => {
      node.destroy()
      node.connect().catch(() => {}) // an 'error' event of the cluster, too
    })
  }

  /** The client of the node that owns `key`. */
  owner (key: string): Promise<RedisClient> {
    if (!this.#ready) return Promise.reject(new RedisUnavailableError(this.reason))
    return withDeadline(this.#cluster.getNodeClientForKey(key, false) as Promise<RedisClient>)
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#ready = false
    await closeWithin(this.#cluster)
    this.#ended.abort()
  }
}
