import type { Hub } from '../hub/hub.ts'
import { Subscription } from '../hub/subscription.ts'
import type { GivenByToken } from '../hub/subscription.ts'
import type { Broker } from '../model/broker.ts'
import { checkFields } from '../model/arguments.ts'
import { checkChannel, startOf } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { SubscribeOptions, SubscribeResult } from '../model/connection.ts'
import { ConnectionClosedError, InvalidArgumentError } from '../model/errors.ts'
import type { Member, Presence } from '../model/presence.ts'
import { encodePayload, isPosition, newPublication } from '../model/publication.ts'
import type { Position } from '../model/publication.ts'
import type { Connection } from './connection.ts'
import type { Occupants } from './occupancy.ts'

/** Removals from presence lists that are kept at most. What is not removed expires. */
const MAX_REMOVALS = 10_000

/** The subscriptions of this instance: what happens between a subscribe and the end, in the hub and in presence. */
export class Subscriptions {
  readonly #instance: string
  readonly #hub: Hub
  readonly #broker: Broker
  readonly #presence: Presence
  readonly #namespaces: ChannelNamespaces
  readonly #occupants: Occupants | undefined
  /** Removals from presence lists that failed, by connection and channel. `refreshPresence` does them again. */
  readonly #removals = new Map<string, { channel: string, client: string }>()

  /** `occupants`: undefined unless the app wants to hear of occupied and vacated channels. */
  constructor (
    instance: string, hub: Hub, broker: Broker, presence: Presence, namespaces: ChannelNamespaces, occupants: Occupants | undefined
  ) {
    this.#instance = instance
    this.#hub = hub
    this.#broker = broker
    this.#presence = presence
    this.#namespaces = namespaces
    this.#occupants = occupants
  }

  /** Subscribes a connection on behalf of the app. */
  async subscribe (
    connection: Connection, channel: string, options: SubscribeOptions = {}, { info, overrides }: GivenByToken = {}
  ): Promise<SubscribeResult> {
    checkFields('options of subscribe', options, ['since'])
    const { since } = options
    const { history, joinLeave } = this.#namespaces.rules(checkChannel(channel))
    if (since !== undefined && history === undefined) {
      throw new InvalidArgumentError('since', JSON.stringify(since), `undefined: the namespace of channel ${channel} keeps no history`)
    }
    if (since !== undefined && !isPosition(since)) throw new InvalidArgumentError('since', JSON.stringify(since), 'a position, { offset, epoch }')
    return connection.turns.take(channel, async () => {
      if (connection.subscriptions.has(channel)) return {}
      const subscription = new Subscription(connection, channel, true)
      subscription.since = since ?? connection.session.positionOf(channel)
      subscription.joinLeave = overrides?.pushJoinLeave ?? joinLeave
      subscription.info = info
      subscription.overrides = overrides
      await this.join(connection, subscription)
      return connection.session.subscribed(subscription)
    })
  }

  /** Unsubscribes a connection on behalf of the app. */
  async unsubscribe (connection: Connection, channel: string): Promise<void> {
    checkChannel(channel)
    await connection.turns.take(channel, async () => {
      const subscription = connection.subscriptions.get(channel)
      if (subscription === undefined) return
      const { state } = subscription
      await this.end(connection, subscription)
      if (state === 'live') connection.session.unsubscribed(channel)
    })
  }

  /** Joins the channel. Resolves when the subscription may be admitted; if it rejects, the subscription has ended. */
  async join (connection: Connection, subscription: Subscription): Promise<void> {
    if (!connection.open) throw new ConnectionClosedError(connection.id)
    const { channel, since } = subscription
    const rules = this.#namespaces.rules(channel)
    const { history } = rules
    connection.addSubscription(subscription)
    if (this.#removals.size > 0) this.#removals.delete(removalKey(channel, connection.id))
    try {
      const reads = since !== undefined || connection.session.positioned || startOf(rules) !== 'missed'
      await this.#hub.join(subscription, history !== undefined && reads)
      if (this.#isListed(subscription) && connection.open) await this.#presence.add(channel, [memberOf(connection, subscription.info)])
      if (!connection.open) throw new ConnectionClosedError(connection.id)
      if (subscription.state === 'joining') this.#occupants?.enter(channel, subscription)
    } catch (error) {
      // Not awaited: while Redis does not answer, the client would wait for the removal, too.
      if (subscription.state === 'ended') this.#removePresence(connection, subscription) // it ended while it was added
      else this.end(connection, subscription)
      throw error
    }
  }

  /** Reads the history again for a subscription that has joined and is to recover from another position. */
  async recoverFrom (connection: Connection, subscription: Subscription, since: Position): Promise<void> {
    subscription.since = since
    await this.#hub.read(subscription)
    if (!connection.open) throw new ConnectionClosedError(connection.id)
  }

  /** Ends a subscription in whichever state. */
  async end (connection: Connection, subscription: Subscription): Promise<void> {
    const { state, channel } = subscription
    if (state === 'ended') return
    connection.removeSubscription(subscription)
    subscription.end()
    this.#occupants?.leave(channel, subscription)
    if (state === 'live') this.#announce('leave', connection, subscription).catch(() => {})
    if (state !== 'new') await this.#removePresence(connection, subscription)
  }

  /** Tells the channel that the subscription is live. Called when the client knows it. */
  announceJoin (connection: Connection, subscription: Subscription): void {
    this.#announce('join', connection, subscription).catch(() => {})
  }

  /**
   * Brings the presence lists up to date: removes members who could not be removed when they left, and adds those who
   * are here again, before their entries expire. The removals are sent first.
   */
  async refreshPresence (connections: Iterable<Connection>): Promise<void> {
    const removals = Array.from(this.#removals.values())
    this.#removals.clear()
    const removed = removals.map(({ channel, client }) => this.#removeMember(client, channel))
    const members = new Map<string, Member[]>()
    for (const connection of connections) {
      for (const subscription of connection.subscriptions.values()) {
        const { channel, state, info } = subscription
        if (state !== 'live' || !this.#isListed(subscription)) continue
        const ofChannel = members.get(channel)
        const member = memberOf(connection, info)
        if (ofChannel === undefined) members.set(channel, [member])
        else ofChannel.push(member)
      }
    }
    await Promise.all([...removed, ...Array.from(members, ([channel, ofChannel]) => this.#presence.add(channel, ofChannel))])
  }

  /** Not awaited: an event is delivered at most once, and the presence list is authoritative. */
  async #announce (kind: 'join' | 'leave', connection: Connection, { channel, info, overrides }: Subscription): Promise<void> {
    if (!(overrides?.joinLeave ?? this.#namespaces.rules(channel).joinLeave)) return
    const { payload } = encodePayload(memberOf(connection, info))
    await this.#broker.publish(channel, newPublication(this.#instance, { kind, payload }), { history: undefined })
  }

  /** True if the subscriber is in the presence list. */
  #isListed ({ overrides, channel }: Subscription): boolean {
    return overrides?.presence ?? this.#namespaces.rules(channel).presence
  }

  async #removePresence ({ id }: Connection, subscription: Subscription): Promise<void> {
    if (this.#isListed(subscription)) await this.#removeMember(id, subscription.channel)
  }

  /** Never rejects. A removal that fails, because Redis is down, is kept. */
  async #removeMember (client: string, channel: string): Promise<void> {
    await this.#presence.remove(channel, client).catch(() => {
      if (this.#removals.size < MAX_REMOVALS) this.#removals.set(removalKey(channel, client), { channel, client })
    })
  }
}

function removalKey (channel: string, client: string): string {
  return `${client} ${channel}`
}

/** The member that others see of a connection. */
export function memberOf ({ id, user, info }: Connection, channelInfo?: unknown): Member {
  return { client: id, user, ...(info !== undefined && { info }), ...(channelInfo !== undefined && { channelInfo }) }
}
