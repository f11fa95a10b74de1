import type { Control } from '../core/control.ts'
import type { Hub } from '../hub/hub.ts'
import type { Instance } from '../core/connections.ts'
import type { Instances } from '../core/instance-registry.ts'
import type { Memory } from './memory-guard.ts'
import type { Observer } from '../observability/observer.ts'
import { PRESENCE_REFRESH } from '../model/presence.ts'

/** ms between two sweeps at the most. */
const MAX_TICK = 1_000
/** ms between two records of this instance. */
const RECORD_INTERVAL = 5_000

/** The one timer: pings, dead peers, age, memory, empty channels, presence, this instance's record and its ear for commands. */
export class Heartbeat {
  readonly #instance: Instance
  readonly #hub: Hub
  readonly #instances: Instances
  readonly #control: Control
  readonly #observer: Observer
  readonly #memory: Memory
  /** ms between two sweeps, and so by how much something may come too late; pings and their deadlines are that much early. */
  readonly #tick: number
  #timer: NodeJS.Timeout | undefined
  #sweptAt = 0
  #refreshedAt = 0
  #recordedAt = 0

  constructor (instance: Instance, hub: Hub, instances: Instances, control: Control, observer: Observer, memory: Memory) {
    this.#instance = instance
    this.#hub = hub
    this.#instances = instances
    this.#control = control
    this.#observer = observer
    this.#memory = memory
    const { interval, timeout } = instance.options.heartbeat
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
    const { interval, timeout } = this.#instance.options.heartbeat
    // After a pause of this process (a busy event loop, CPU throttling) pongs lie unread in the sockets: nobody is dead for that.
    const late = Math.max(0, now - this.#sweptAt - 2 * this.#tick)
    this.#sweptAt = now
    for (const connection of this.#instance.connections.values()) connection.sweep(now, late, interval - this.#tick, timeout - this.#tick)
    this.#memory.check(this.#instance.connections)
    this.#hub.sweep(now)
    this.#observer.swept(now, late, this.#instance.connections.size)
    if (now - this.#refreshedAt >= PRESENCE_REFRESH) {
      this.#refreshedAt = now
      // Without Redis there is nothing to refresh; the bridge's return does it then.
      this.#instance.refreshPresence().catch(() => {})
    }
    if (now - this.#recordedAt >= RECORD_INTERVAL) {
      this.#recordedAt = now
      this.#instances.record().catch(() => {})
      // Redis may have been there without answering when it was tried before: a node that was loading, a slot without an owner.
      this.#control.listen().catch(() => {})
    }
  }
}
