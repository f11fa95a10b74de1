import type { WebSocket } from 'ws'
import { closeCodes } from '../model/close-codes.ts'
import type { Instance } from '../core/connections.ts'
import type { Observer } from '../observability/observer.ts'
import { within } from '../util/timeout.ts'

/** ms between two batches of closings. */
const BATCH_INTERVAL = 50
/** Connections that may be closed together without being paced. */
const MIN_BATCH = 10
/** Shares of the timeout: by then the last connection is told to go; by then those that did not answer are cut; by then the host has handled every end. */
const CLOSE_BY = 0.5
const CUT_BY = 0.7
const SETTLE_BY = 0.8

/** Closes all connections so that their clients do not come back all at once, within the time there is. */
export class Drain {
  readonly #instance: Instance
  readonly #observer: Observer
  /** WebSockets that are not ours but would keep the server from closing; undefined where the host's server does not track them. */
  readonly #others: () => ReadonlySet<WebSocket> | undefined
  #done: Promise<void> | undefined
  #deadline = 0

  constructor (instance: Instance, observer: Observer, others: () => ReadonlySet<WebSocket> | undefined) {
    this.#instance = instance
    this.#observer = observer
    this.#others = others
  }

  get started (): boolean { return this.#done !== undefined }

  /** ms of its timeout that are left for what has to be done after it. */
  get left (): number { return Math.max(0, this.#deadline - Date.now()) }

  /** Resolves when no connection is left; within `timeout` ms whatever clients and handlers do. */
  start (timeout: number): Promise<void> {
    this.#done ??= this.#run(timeout)
    return this.#done
  }

  /** What is left of WebSockets that are not ours, after they were told to go. */
  cutOthers (): void {
    for (const socket of this.#others() ?? []) socket.terminate()
  }

  async #run (timeout: number): Promise<void> {
    const { connections } = this.#instance
    const startedAt = Date.now()
    this.#deadline = startedAt + timeout
    const total = connections.size
    this.#observer.drainStarted(total, timeout)
    for (const socket of this.#others() ?? []) socket.close(closeCodes.drain.code, closeCodes.drain.reason)
    await this.#closeAll(startedAt + timeout * CLOSE_BY)
    await this.#until(() => connections.size === 0 && !this.#others()?.size, startedAt + timeout * CUT_BY)
    this.cutOthers()
    const silent = connections.size
    for (const connection of connections.values()) connection.cut('drain')
    await this.#until(() => connections.size === 0, startedAt + timeout * SETTLE_BY) // their ends come a moment later
    await within(startedAt + timeout * SETTLE_BY - Date.now(), this.#instance.settled())
    this.#observer.drained(total, silent, Date.now() - startedAt)
  }

  async #closeAll (by: number): Promise<void> {
    const open = Array.from(this.#instance.connections.values())
    const batch = Math.max(MIN_BATCH, Math.ceil(open.length / Math.max(1, (by - Date.now()) / BATCH_INTERVAL)))
    for (let i = 0; i < open.length; i += batch) {
      if (i > 0) await sleep(BATCH_INTERVAL)
      for (const connection of open.slice(i, i + batch)) connection.end('drain')
    }
  }

  async #until (condition: () => boolean, deadline: number): Promise<void> {
    while (!condition() && Date.now() < deadline) await sleep(BATCH_INTERVAL / 5)
  }
}

function sleep (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
