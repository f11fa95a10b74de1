import type { Control } from '../core/control.ts'
import type { Hub } from '../hub/hub.ts'
import type { Connections } from '../core/connections.ts'
import type { Subscriptions } from '../core/subscriptions.ts'
import type { Occupancies } from '../core/occupancy.ts'
import type { InstanceRegistry } from '../core/instance-registry.ts'
import type { MemoryGuard } from './memory-guard.ts'
import type { Observer } from '../observability/observer.ts'
import { PRESENCE_REFRESH } from '../model/presence.ts'

/** ms between two sweeps at most. */
const MAX_TICK = 1_000
/** ms between two records of this instance. */
const RECORD_INTERVAL = 5_000

/**
 * The one timer of all connections: none has a timer of its own. Each sweep handles pings, dead peers, connection age,
 * memory, empty channels, who has come and gone, presence, the instance record and the control subscription.
 */
export class Heartbeat {
  readonly #connections: Connections
  readonly #subscriptions: Subscriptions
  readonly #hub: Hub
  readonly #registry: InstanceRegistry
  readonly #control: Control
  readonly #occupancies: Occupancies
  readonly #observer: Observer
  readonly #memory: MemoryGuard
  /** ms between two sweeps. A sweep may come this late, so pings and their deadlines are set this much earlier. */
  readonly #tick: number
  #timer: NodeJS.Timeout | undefined
  /** Unix times in ms. */
  #sweptAt = 0
  #refreshedAt = 0
  #recordedAt = 0

  constructor (
    connections: Connections, subscriptions: Subscriptions, hub: Hub, registry: InstanceRegistry, control: Control,
    occupancies: Occupancies, observer: Observer, memory: MemoryGuard
  ) {
    this.#connections = connections
    this.#subscriptions = subscriptions
    this.#hub = hub
    this.#registry = registry
    this.#control = control
    this.#occupancies = occupancies
    this.#observer = observer
    this.#memory = memory
    const { interval, timeout } = connections.options.heartbeat
    this.#tick = Math.max(1, Math.floor(Math.min(MAX_TICK, interval / 5, timeout / 5)))
  }

  start (): void {
    this.#sweptAt = this.#refreshedAt = Date.now()
    this.#timer = setInterval(() => this.#sweep(Date.now()), this.#tick).unref()
  }

  stop (): void {
    clearInterval(this.#timer)
  }

  #sweep (now: number): void {
    const connections = this.#connections
    const { interval, timeout } = connections.options.heartbeat
    // Pongs lie unread in sockets while this process stalls (busy event loop, CPU throttling). No peer is dead then.
    const late = Math.max(0, now - this.#sweptAt - 2 * this.#tick)
    this.#sweptAt = now
    for (const connection of connections) connection.sweep(now, late, interval - this.#tick, timeout - this.#tick)
    this.#memory.check(connections)
    this.#hub.sweep(now)
    this.#occupancies.sweep(now)
    this.#observer.swept(now, late, connections.size)
    if (now - this.#refreshedAt >= PRESENCE_REFRESH) {
      this.#refreshedAt = now
      this.#subscriptions.refreshPresence(connections).catch(() => {}) // fails while Redis is down; done again when it is up
    }
    if (now - this.#recordedAt >= RECORD_INTERVAL) {
      this.#recordedAt = now
      this.#registry.record().catch(() => {})
      // The last attempt may have failed with Redis up: a node was loading its data, or a slot had no owner.
      this.#control.listen().catch(() => {})
    }
  }
}
