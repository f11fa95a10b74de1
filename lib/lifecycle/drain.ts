import { setTimeout as sleep } from 'node:timers/promises'
import type { WebSocket } from 'ws'
import { closeCodes } from '../model/close-codes.ts'
import type { Connections } from '../core/connections.ts'
import type { Listeners } from '../core/listeners.ts'
import type { Streams } from '../core/streams.ts'
import type { Observer } from '../observability/observer.ts'
import { settledWithin } from '../util/timeout.ts'

/** ms between two batches of closings. */
const BATCH_INTERVAL = 50
/** Connections that may be closed together without being paced. */
const MIN_BATCH = 10
/** ms between two looks at what is left. */
const POLL_INTERVAL = 10

/** ms after the start of a drain. */
export interface DrainBudget {
  /** For all of it, and what comes after it. */
  readonly timeout: number
  /** The last connection is told to close. */
  readonly closeBy: number
  /** Connections that did not answer are terminated. */
  readonly terminateBy: number
  /** Handlers of the app are no longer awaited. */
  readonly settleBy: number
}

/** Closes all connections within a time budget, spread over it so that the clients do not return all at once. */
export class Drain {
  readonly #connections: Connections
  readonly #listeners: Listeners
  readonly #streams: Streams
  readonly #observer: Observer
  readonly #others: () => ReadonlySet<WebSocket> | undefined
  #done: Promise<void> | undefined
  /** Unix time in ms. */
  #deadline = 0

  /** `others`: WebSockets of the app's own routes, which would keep the server open. undefined if it tracks none. */
  constructor (
    connections: Connections, listeners: Listeners, streams: Streams, observer: Observer, others: () => ReadonlySet<WebSocket> | undefined
  ) {
    this.#connections = connections
    this.#listeners = listeners
    this.#streams = streams
    this.#observer = observer
    this.#others = others
  }

  get started (): boolean { return this.#done !== undefined }

  /** ms of the timeout that are left for the steps after the drain. */
  get left (): number { return Math.max(0, this.#deadline - Date.now()) }

  /** Resolves when no connection is left, within the budget whatever clients and handlers do. May be called twice. */
  start (budget: DrainBudget): Promise<void> {
    this.#done ??= this.#run(budget)
    return this.#done
  }

  /** Terminates the WebSockets of the app's own routes. */
  terminateOthers (): void {
    for (const socket of this.#others() ?? []) socket.terminate()
  }

  async #run ({ timeout, closeBy, terminateBy, settleBy }: DrainBudget): Promise<void> {
    const connections = this.#connections
    const startedAt = Date.now()
    this.#deadline = startedAt + timeout
    const total = connections.size
    this.#observer.drainStarted(total, timeout)
    for (const socket of this.#others() ?? []) socket.close(closeCodes.drain.code, closeCodes.drain.reason)
    await this.#closeAll(startedAt + closeBy)
    await this.#until(() => connections.size === 0 && !this.#others()?.size, startedAt + terminateBy)
    this.terminateOthers()
    const silent = connections.size
    for (const connection of connections) connection.terminate('drain')
    await this.#until(() => connections.size === 0, startedAt + settleBy) // sockets report their end a moment later
    await settledWithin(this.#streams.ended(), startedAt + terminateBy - Date.now())
    const rest = [this.#connections.settled(), this.#listeners.close(), this.#streams.close()]
    await settledWithin(Promise.all(rest), startedAt + settleBy - Date.now())
    this.#observer.drained(total, silent, Date.now() - startedAt)
  }

  async #closeAll (deadline: number): Promise<void> {
    const open = Array.from(this.#connections)
    const batches = Math.max(1, (deadline - Date.now()) / BATCH_INTERVAL)
    const size = Math.max(MIN_BATCH, Math.ceil(open.length / batches))
    for (let i = 0; i < open.length; i += size) {
      if (i > 0) await sleep(BATCH_INTERVAL)
      for (const connection of open.slice(i, i + size)) connection.end('drain')
    }
  }

  async #until (condition: () => boolean, deadline: number): Promise<void> {
    while (!condition() && Date.now() < deadline) await sleep(POLL_INTERVAL)
  }
}
