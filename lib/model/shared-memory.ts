import type { Broker } from './broker.ts'
import type { Occupancy, OccupancyListener, OccupancySettings } from './occupancy.ts'
import type { Presence } from './presence.ts'
import type { SessionStore } from './sessions.ts'

/** What `sharedMemory()` returns: a value for the option `redis` that joins apps of one process without Redis. */
export interface SharedMemory {
  /** Tells it from the options of a Redis client. */
  readonly kind: 'memory'
  /** Called by the plugin, once per app. */
  join (): unknown
}

/** The same as the plugin sees it. It asks for no class: two copies of this package understand each other. */
export interface SharedMemorySource extends SharedMemory {
  /** What one more instance works with. Its broker belongs to that instance alone. */
  join (): {
    readonly broker: Broker
    readonly presence: Presence
    readonly sessions: SessionStore
    occupancy (settings: OccupancySettings, listener: OccupancyListener): Occupancy
  }
}
