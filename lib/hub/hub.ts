import type { Broker } from '../model/broker.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { Position } from '../model/publication.ts'
import { Channel } from './channel.ts'
import type { DeliveryObserver } from './delivery-observer.ts'
import { HistoryReads } from './history-reads.ts'
import { HubListener } from './listener.ts'
import type { ListenerOwner } from './listener.ts'
import type { Subscription } from './subscription.ts'

/** Milliseconds that an empty channel stays subscribed: a client that reloads its page comes back to it. */
const LINGER = 1_000

/** The channels of this instance. Subscribes the broker to channels that have a subscription here, and to no others. */
export class Hub {
  readonly #broker: Broker
  readonly #namespaces: ChannelNamespaces
  readonly #maxRecovery: number
  readonly #observer: DeliveryObserver
  readonly #channels = new Map<string, Channel>()
  /** Publications skipped in channels that are gone. */
  #skipped = 0

  /**
   * @param maxRecovery Bytes that one subscriber may recover: a client that cannot take more would be dropped for it,
   * come back and be dropped again.
   */
  constructor (broker: Broker, namespaces: ChannelNamespaces, maxRecovery: number, observer: DeliveryObserver) {
    this.#broker = broker
    this.#namespaces = namespaces
    this.#maxRecovery = maxRecovery
    this.#observer = observer
  }

  /** Channels with a subscription or a listener on this instance. */
  get channels (): number { return this.#sum(channel => channel.empty ? 0 : 1) }

  /** Subscriptions that are live. */
  get subscriptions (): number { return this.#sum(channel => channel.subscriptions.size) }

  /** Publications that slow subscribers did not get, because a later one took their place. */
  get skipped (): number { return this.#skipped + this.#sum(channel => channel.skipped) }

  /**
   * Resolves when publications arrive; they are buffered until `subscription.admit`. The first subscription of a
   * channel subscribes the broker and waits for it, as do all that join meanwhile. With `positioned` the channel's
   * position is read, and what was published after `since`. If it rejects, the caller ends the subscription.
   */
  async join (subscription: Subscription, positioned: boolean): Promise<void> {
    const channel = this.#enter(subscription.channel)
    subscription.join(channel)
    channel.joining.add(subscription)
    await channel.ready
    if (positioned) await this.read(subscription)
  }

  /** Reads the position of a channel that the subscription has joined, and what was published after its `since`. */
  async read (subscription: Subscription): Promise<void> {
    const channel = this.#channels.get(subscription.channel)
    if (channel?.reads === undefined) return
    subscription.read(await channel.reads.after(subscription.readsAfter))
    // Of streams less is sent than was read.
    if (channel.start !== 'streams' && subscription.recoveryBytes > this.#maxRecovery) subscription.giveUpRecovery()
  }

  /**
   * Hands publications of a channel to the app, after `since` or from now on. If it rejects, nothing is handed over.
   * @throws FST_CRWS_UNRECOVERABLE_POSITION if the history no longer has everything after `since`
   */
  async listen (name: string, since: Position | undefined, owner: ListenerOwner): Promise<HubListener> {
    const channel = this.#enter(name)
    const read = channel.reads && ((after: Position | undefined, limit: number) => {
      return this.#broker.history(name, { limit, since: after, maxBytes: this.#maxRecovery })
    })
    const listener = new HubListener(name, owner, this.#maxRecovery, read)
    channel.addListener(listener)
    try {
      await channel.ready
      await listener.start(since)
    } catch (error) {
      channel.removeListener(listener)
      throw error
    }
    return listener
  }

  /** Resolves when the handler that is running has ended. */
  async unlisten (listener: HubListener): Promise<void> {
    this.#channels.get(listener.channel)?.removeListener(listener)
    await listener.stop()
  }

  /** Lists the channels that have a live subscription on this instance, and how many each has. */
  * sizes (): Iterable<readonly [channel: string, subscriptions: number]> {
    for (const { name, subscriptions } of this.#channels.values()) if (subscriptions.size > 0) yield [name, subscriptions.size]
  }

  /** Unsubscribes the broker from channels that have been empty for a while. */
  sweep (now: number): void {
    for (const channel of this.#channels.values()) {
      if (!channel.empty || now - channel.emptySince < LINGER) continue
      this.#forget(channel)
      this.#broker.unsubscribe(channel.name)
    }
  }

  #enter (name: string): Channel {
    const known = this.#channels.get(name)
    if (known !== undefined) return known
    const { history, tagsFilter } = this.#namespaces.rules(name)
    const reads = history && new HistoryReads(async from => {
      if (from === Infinity) return this.#broker.history(name, { limit: 0 })
      // Newest first: where bytes end the read, they end it for those who have missed the most.
      // With filters the newest publication need not be that of all subscribers.
      const limit = history.recover === 'cache' && !tagsFilter ? 1 : history.size
      const read = await this.#broker.history(name, { limit, reverse: true, until: from, maxBytes: this.#maxRecovery })
      return { ...read, publications: read.publications.toReversed() }
    })
    const channel = new Channel(name, this.#namespaces.rules(name), reads, this.#maxRecovery, this.#observer)
    this.#channels.set(name, channel)
    channel.ready = this.#broker.subscribe(name, history !== undefined, channel)
    channel.ready.catch(() => this.#forget(channel)) // all that wait for it are told; the next one to join tries again
    return channel
  }

  #forget (channel: Channel): void {
    if (this.#channels.get(channel.name) !== channel) return // its subscribe was slow, and another one has its place
    this.#channels.delete(channel.name)
    this.#skipped += channel.skipped
  }

  #sum (count: (channel: Channel) => number): number {
    let sum = 0
    for (const channel of this.#channels.values()) sum += count(channel)
    return sum
  }
}
