import type { Control } from '../core/control.ts'
import type { Hints } from '../observability/hints/hints.ts'
import type { Hub } from '../hub/hub.ts'
import type { Connections } from '../core/connections.ts'
import type { Subscriptions } from '../core/subscriptions.ts'
import type { InstanceRegistry } from '../core/instance-registry.ts'
import type { Memory } from './memory-guard.ts'
import { PRESENCE_REFRESH } from '../model/presence.ts'

/** ms between two sweeps at the most. */
const MAX_TICK = 1_000
/** ms between two records of this instance. */
const RECORD_INTERVAL = 5_000

/** The one timer: pings, dead peers, age, memory, empty channels, presence, this instance's record and its ear for commands. */
export class Heartbeat {
  readonly #connections: Connections
  readonly #subscriptions: Subscriptions
  readonly #hub: Hub
  readonly #registry: InstanceRegistry
  readonly #control: Control
  readonly #hints: Hints
  readonly #memory: Memory
  /** ms between two sweeps, and so by how much something may come too late; pings and their deadlines are that much early. */
  readonly #tick: number
  #timer: NodeJS.Timeout | undefined
  #sweptAt = 0
  #refreshedAt = 0
  #recordedAt = 0

  constructor (connections: Connections, subscriptions: Subscriptions, hub: Hub, registry: InstanceRegistry, control: Control, hints: Hints, memory: Memory) {
    this.#connections = connections
    this.#subscriptions = subscriptions
    this.#hub = hub
    this.#registry = registry
    this.#control = control
    this.#hints = hints
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
    const { interval, timeout } = this.#connections.options.heartbeat
    // After a pause of this process (a busy event loop, CPU throttling) pongs lie unread in the sockets: nobody is dead for that.
    const late = Math.max(0, now - this.#sweptAt - 2 * this.#tick)
    this.#sweptAt = now
    for (const connection of this.#connections) connection.sweep(now, late, interval - this.#tick, timeout - this.#tick)
    this.#memory.check(this.#connections)
    this.#hub.sweep(now)
    this.#hints.swept(now, late, this.#connections.size)
    if (now - this.#refreshedAt >= PRESENCE_REFRESH) {
      this.#refreshedAt = now
      // Without Redis there is nothing to refresh; the bridge's return does it then.
      this.#subscriptions.refreshPresence(this.#connections).catch(() => {})
    }
    if (now - this.#recordedAt >= RECORD_INTERVAL) {
      this.#recordedAt = now
      this.#registry.record().catch(() => {})
      // Redis may have been there without answering when it was tried before: a node that was loading, a slot without an owner.
      this.#control.listen().catch(() => {})
    }
  }
}
