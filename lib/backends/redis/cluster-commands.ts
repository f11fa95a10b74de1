import { setMaxListeners } from 'node:events'
import { RedisUnavailableError } from '../../model/errors.ts'
import { BUFFERS, COMMAND_TIMEOUT, withDeadline } from './commands.ts'
import type { RedisArgument, RedisCommands } from './commands.ts'
import { closeWithin, describeError, newCluster, reconnectDelay } from './client.ts'
import type { RedisClient, RedisCluster } from './client.ts'
import type { RedisKeys } from './keys.ts'
import { NOT_CONNECTED_YET, reconnect, watchAnswers } from './link.ts'
import { Login } from './login.ts'
import { requireRights } from './rights.ts'
import { loadScripts } from './scripts.ts'
import type { RedisSource } from '../../options/redis-source.ts'

/** Sends each command to the node that owns its key. */
export class ClusterCommands implements RedisCommands {
  readonly publishCommand = 'SPUBLISH'
  reason = NOT_CONNECTED_YET
  readonly login: Login
  readonly #cluster: RedisCluster
  readonly #keys: RedisKeys
  readonly #watched = new WeakSet<RedisClient>()
  #ready = false
  #changed: () => void = () => {}
  #closed = false
  readonly #ended = new AbortController()

  constructor (source: RedisSource & { kind: 'cluster' | 'cluster-client' }, keys: RedisKeys) {
    this.login = new Login(source)
    this.#keys = keys
    setMaxListeners(0, this.#ended.signal) // one listener per connection
    this.#cluster = newCluster(source, this.#ended.signal)
    // Without a listener an 'error' event would end the process. The command that fails reports the error.
    this.#cluster.on('error', (error: unknown) => this.#failed(error))
    this.#cluster.on('node-error', (error: unknown) => this.#failed(error))
  }

  get ready (): boolean { return this.#ready }

  /** Connects, and tries again until it succeeds: unlike a single client, a cluster of node-redis gives up at once. */
  open (changed: () => void, retries = 0): void {
    this.#changed = changed
    this.#connect().then(() => {
      if (this.#closed) return
      this.#ready = true
      changed()
    }, (error: unknown) => {
      this.#failed(error)
      if (!this.#closed) setTimeout(() => this.#closed || this.open(changed, retries + 1), reconnectDelay(retries)).unref()
    })
  }

  #failed (error: unknown): void {
    const isSummary = error instanceof Error && error.constructor.name === 'RootNodesUnavailableError'
    if (!isSummary) this.reason = this.login.explain(describeError(error)) // the error before a summary says why
    if (!this.#closed) this.#changed()
  }

  async #connect (): Promise<void> {
    if (!this.#cluster.isOpen) await this.#cluster.connect()
    const { rights } = this.#keys
    const send = (args: string[]) => withDeadline(this.#send(rights, args, false, Date.now() + COMMAND_TIMEOUT))
    await requireRights(send, this.publishCommand, this.#keys, [['EXISTS', rights], ['CLIENT', 'INFO']])
  }

  send (key: string, args: RedisArgument[], buffers = false): Promise<unknown> {
    if (!this.#ready) return Promise.reject(new RedisUnavailableError(this.reason))
    return withDeadline(this.#send(key, args, buffers, Date.now() + COMMAND_TIMEOUT))
  }

  async #send (key: string, args: RedisArgument[], buffers: boolean, deadline: number): Promise<unknown> {
    // node-redis waits without limit for a node that is down. A command must not run after its caller was told that
    // it failed.
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
    node.on('ready', load) // it may be another server now, or one that has restarted without the scripts
    watchAnswers(node, () => reconnect(node))
  }

  /** Returns the client of the node that owns `key`. Rejects with a coded error within `COMMAND_TIMEOUT`. */
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
