import { once } from 'node:events'
import { RedisUnavailableError } from '../../model/errors.ts'
import { withDeadline } from './commands.ts'
import type { ClusterCommands } from './cluster-commands.ts'
import { describeError, duplicateClient } from './client.ts'
import type { RedisClient } from './client.ts'
import { RedisLink } from './link.ts'
import type { MessageListener, RedisSubscriber, SubscriberListener } from './subscriber.ts'

/** Milliseconds between two rounds that verify the subscriptions at each node and resubscribe channels without one. */
const CHECK_INTERVAL = 1_000

/** A Pub/Sub channel that is wanted. */
interface Wanted {
  readonly listener: MessageListener
  /** The Redis connection over which it is subscribed; undefined while it has none. */
  link: RedisLink | undefined
}

/**
 * Sharded Pub/Sub: subscribes each channel at the node that owns its slot, over one Redis connection per node.
 *
 * node-redis has this too, but does not wait for the new subscription after it has lost a node. Messages are lost
 * unnoticed meanwhile, and a failure is an unhandled rejection, which ends the process.
 */
export class ClusterSubscriber implements RedisSubscriber {
  readonly #commands: ClusterCommands
  readonly #links = new Map<string, RedisLink>()
  /** By Pub/Sub channel. */
  readonly #channels = new Map<string, Wanted>()
  readonly #resubscribing = new Set<string>()
  /** Listeners whose first subscribe is under way, by Pub/Sub channel. */
  readonly #subscribing = new Map<string, MessageListener>()
  /** Why the last Redis connection was lost. The connection itself is gone when `reason` is read. */
  #lostBecause = 'channels have no node'
  #listener: SubscriberListener | undefined
  #checking: NodeJS.Timeout | undefined

  constructor (commands: ClusterCommands) {
    this.#commands = commands
  }

  get ready (): boolean { return this.#unassigned().length === 0 }
  get reason (): string { return Array.from(this.#links.values()).find(link => !link.ready)?.reason ?? this.#lostBecause }

  isReady (pubsub: string): boolean {
    const wanted = this.#channels.get(pubsub)
    return wanted === undefined || wanted.link?.ready === true
  }

  open (listener: SubscriberListener): void {
    this.#listener = listener
    this.#checking = setInterval(() => {
      this.#resubscribeAll()
      this.#verifyAll()
    }, CHECK_INTERVAL).unref()
  }

  async subscribe (pubsub: string, listener: MessageListener): Promise<void> {
    this.#subscribing.set(pubsub, listener)
    try {
      this.#channels.set(pubsub, { listener, link: await this.#subscribeAtOwner(pubsub, listener) })
    } finally {
      if (this.#subscribing.get(pubsub) === listener) this.#subscribing.delete(pubsub)
    }
  }

  unsubscribe (pubsub: string, listener: MessageListener): void {
    const wanted = this.#channels.get(pubsub)
    if (wanted?.listener === listener) {
      this.#channels.delete(pubsub)
      if (wanted.link === undefined) this.#listener?.changed()
      unsubscribeAt(wanted.link, pubsub, listener)
    } else if (wanted === undefined && !this.#subscribing.has(pubsub)) { // it would silence those, too
      // Left over on a connection that broke before the unsubscribe was sent.
      for (const link of this.#links.values()) unsubscribeAt(link, pubsub, listener)
    }
  }

  async close (): Promise<void> {
    clearInterval(this.#checking)
    this.#channels.clear()
    await Promise.all(Array.from(this.#links.values(), link => link.close()))
  }

  /** Channels that are not subscribed at any node now. */
  #unassigned (): string[] {
    return Array.from(this.#channels.keys()).filter(pubsub => !this.#channels.get(pubsub)?.link?.ready)
  }

  async #subscribeAtOwner (pubsub: string, listener: MessageListener): Promise<RedisLink> {
    try {
      return await subscribeAt(await this.#linkTo(pubsub), pubsub, listener)
    } catch (error) {
      if (!isMoved(error)) throw error
      // Any command for this slot makes node-redis learn the new owner.
      await this.#commands.send(pubsub, ['EXISTS', pubsub])
      return subscribeAt(await this.#linkTo(pubsub), pubsub, listener)
    }
  }

  async #linkTo (pubsub: string): Promise<RedisLink> {
    const node = await this.#commands.owner(pubsub)
    const { host, port } = node.options.socket as { host: string, port: number }
    const address = `${host}:${port}`
    let link = this.#links.get(address)
    if (link === undefined) {
      link = new RedisLink({ newClient: () => this.#newClient(node), login: this.#commands.login })
      this.#links.set(address, link)
      this.#watch(link, address)
    }
    if (!link.ready) await this.#untilReady(link, address)
    return link
  }

  #newClient (node: RedisClient): RedisClient {
    const client = duplicateClient(node)
    client.setMaxListeners(0) // many channels may wait for this connection at once
    client.on('sharded-channel-moved', (pubsub: string) => {
      if (this.#channels.has(pubsub)) this.#moved(pubsub) // unless it was unsubscribed at the same moment
    })
    return client
  }

  #watch (link: RedisLink, address: string): void {
    link.open({
      linkReady: () => {},
      linkLost: () => {
        this.#lostBecause = link.reason
        this.#lose(link, address)
      }
    })
  }

  #lose (link: RedisLink, address: string): void {
    this.#drop(link, address)
    for (const [pubsub, { link: assigned }] of this.#channels) {
      if (assigned === link) this.#lost(pubsub)
    }
    this.#listener?.changed()
    this.#resubscribeAll()
  }

  /** Closes a connection for good, since its node may never return. Its channels look up their owner again. */
  #drop (link: RedisLink, address: string): void {
    if (this.#links.get(address) === link) this.#links.delete(address)
    link.close()
  }

  async #untilReady (link: RedisLink, address: string): Promise<void> {
    try {
      await withDeadline(once(link.client!, 'ready')) // rejects at the first 'error'
    } catch {
      this.#drop(link, address)
      this.#lostBecause = link.reason
      this.#listener?.changed()
      throw new RedisUnavailableError(link.reason)
    }
  }

  #verifyAll (): void {
    for (const [address, link] of this.#links) {
      if (link.ready) this.#verify(link, address).catch(() => {}) // retried in the next round
    }
  }

  /**
   * Asks a node how many subscriptions a connection has. A node tells its subscribers when a slot moves away, but while
   * a command is in flight node-redis takes that message for its reply. The channel would then stay silent.
   */
  async #verify (link: RedisLink, address: string): Promise<void> {
    const expected = Array.from(this.#channels.values()).filter(({ link: assigned }) => assigned === link).length
    const info = await withDeadline(link.client!.sendCommand(['CLIENT', 'INFO']))
    const subscribed = Number(/ ssub=(\d+)/.exec(String(info))?.[1])
    if (subscribed < expected) this.#lose(link, address)
  }

  #moved (pubsub: string): void {
    this.#lost(pubsub)
    this.#resubscribe(pubsub)
  }

  #lost (pubsub: string): void {
    const wanted = this.#channels.get(pubsub)
    if (wanted !== undefined) wanted.link = undefined
    this.#listener?.lost(pubsub)
  }

  #resubscribeAll (): void {
    for (const pubsub of this.#unassigned()) this.#resubscribe(pubsub)
  }

  /** Subscribes a channel at its owner again. A failure is retried in the next round. */
  #resubscribe (pubsub: string): void {
    const wanted = this.#channels.get(pubsub)
    if (wanted === undefined || this.#resubscribing.has(pubsub)) return
    this.#resubscribing.add(pubsub)
    this.#subscribeAtOwner(pubsub, wanted.listener).then(link => {
      if (this.#channels.get(pubsub) !== wanted) return unsubscribeAt(link, pubsub, wanted.listener)
      wanted.link = link
      this.#listener?.restored(pubsub)
      this.#listener?.changed()
    }, () => {}).finally(() => this.#resubscribing.delete(pubsub)) // the connection, or the cluster, has the reason
  }
}

/** Subscribes over this connection. A second call for the same listener is harmless: node-redis keeps a set. */
async function subscribeAt (link: RedisLink, pubsub: string, listener: MessageListener): Promise<RedisLink> {
  await withDeadline(link.client!.sSubscribe(pubsub, listener, true))
  return link
}

/** Unsubscribes. Fails only if the connection breaks; a subscription that survives is ended at its next message. */
function unsubscribeAt (link: RedisLink | undefined, pubsub: string, listener: MessageListener): void {
  link?.client?.sUnsubscribe(pubsub, listener, true)?.catch(() => {})
}

function isMoved (error: unknown): boolean {
  return describeError(error).includes('MOVED')
}
