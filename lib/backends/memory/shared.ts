import type { Broker, BrokerListener, ChannelListener, History, HistoryQuery, PublishSettings } from '../../model/broker.ts'
import type { Position, Publication } from '../../model/publication.ts'
import type { SharedMemory, SharedMemorySource } from '../../model/shared-memory.ts'
import { MemoryBroker } from './broker.ts'
import { MemoryOccupancy, SharedOccupancy } from './occupancy.ts'
import { MemoryPresence } from './presence.ts'
import { MemorySessions } from './sessions.ts'

/**
 * Joins apps of one process as Redis joins instances: give each app the same `redis: memory`. They share publications,
 * history, presence, sessions, idempotency keys and commands such as `disconnect`. It survives the apps, as Redis does.
 * Upgrades are counted (`rateLimit.connections`) by each app on its own.
 */
export function sharedMemory (): SharedMemory {
  const channels = new SharedChannels()
  const presence = new MemoryPresence()
  const sessions = new MemorySessions()
  const shared = new SharedOccupancy()
  const memory: SharedMemorySource = {
    kind: 'memory',
    join: () => ({
      broker: new SharedMemoryBroker(channels),
      presence,
      sessions,
      occupancy: (settings, listener) => new MemoryOccupancy(shared, settings, listener)
    })
  }
  return memory
}

/** The broker of one instance. It sees nothing but its own subscriptions; the rest is in `SharedChannels`. */
class SharedMemoryBroker implements Broker {
  readonly up = true
  readonly #channels: SharedChannels
  readonly #subscribed = new Map<string, ChannelListener>()

  constructor (channels: SharedChannels) {
    this.#channels = channels
  }

  async start (listener: BrokerListener): Promise<void> {
    await this.#channels.enter(listener)
  }

  publish (channel: string, publication: Publication, settings: PublishSettings): Promise<Partial<Position>> {
    return this.#channels.broker.publish(channel, publication, settings)
  }

  async subscribe (channel: string, history: boolean, listener: ChannelListener): Promise<void> {
    this.unsubscribe(channel)
    this.#subscribed.set(channel, listener)
    await this.#channels.add(channel, history, listener)
  }

  unsubscribe (channel: string): void {
    const listener = this.#subscribed.get(channel)
    if (listener === undefined) return
    this.#subscribed.delete(channel)
    this.#channels.remove(channel, listener)
  }

  history (channel: string, query: HistoryQuery): Promise<History> {
    return this.#channels.broker.history(channel, query)
  }

  removeHistory (channel: string): Promise<void> {
    return this.#channels.broker.removeHistory(channel)
  }

  async close (): Promise<void> {
    for (const channel of this.#subscribed.keys()) this.unsubscribe(channel)
    await this.#channels.leave()
  }
}

/** What the instances share: the broker of a single instance, and per channel who of them listens. */
class SharedChannels {
  readonly broker = new MemoryBroker()
  readonly #fanOuts = new Map<string, FanOut>()
  #instances = 0

  async enter (listener: BrokerListener): Promise<void> {
    if (this.#instances++ === 0) await this.broker.start(listener)
  }

  async leave (): Promise<void> {
    if (--this.#instances === 0) await this.broker.close()
  }

  async add (channel: string, history: boolean, listener: ChannelListener): Promise<void> {
    const known = this.#fanOuts.get(channel)
    const fanOut = known ?? new FanOut()
    fanOut.listeners.add(listener)
    if (known !== undefined) return
    this.#fanOuts.set(channel, fanOut)
    await this.broker.subscribe(channel, history, fanOut)
  }

  remove (channel: string, listener: ChannelListener): void {
    const fanOut = this.#fanOuts.get(channel)
    fanOut?.listeners.delete(listener)
    if (fanOut?.listeners.size !== 0) return
    this.#fanOuts.delete(channel)
    this.broker.unsubscribe(channel)
  }
}

/** Delivers a channel to every instance that listens, to all in the same order. */
class FanOut implements Pick<ChannelListener, 'deliver'> {
  readonly listeners = new Set<ChannelListener>()
  readonly #waiting: Publication[] = []

  deliver (publication: Publication): void {
    // A listener that publishes must not be overtaken by what it publishes on the way to the next listener.
    if (this.#waiting.push(publication) > 1) return
    const errors: unknown[] = []
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      for (const listener of this.listeners) {
        try {
          listener.deliver(next)
        } catch (error) {
          errors.push(error) // it must not keep the publication from the others, nor what comes after it
        }
      }
      this.#waiting.shift()
    }
    if (errors.length > 0) throw errors[0]
  }
}
