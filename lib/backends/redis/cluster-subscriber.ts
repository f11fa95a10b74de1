import { once } from 'node:events'
import { RedisUnavailableError } from '../../model/errors.ts'
import { withDeadline } from './commands.ts'
import type { ClusterCommands } from './cluster-commands.ts'
import { duplicateClient, RedisLink } from './link.ts'
import type { MessageListener, RedisSubscriber, SubscriberListener } from './subscriber.ts'

/**
 * ms between two rounds that ask each node for its subscriptions, and look for the owner of channels that have lost
 * theirs.
 */
const CHECK_INTERVAL = 1_000

/** A Pub/Sub channel that is wanted. */
interface Wanted {
  readonly listener: MessageListener
  /** The Redis connection over which it is subscribed; undefined while it has none. */
  link: RedisLink | undefined
}

/**
 * Sharded Pub/Sub: every channel is subscribed at the node that owns its slot, over one link to each such node.
 * node-redis can do this too, but it subscribes again without waiting after a node was lost: messages are missed
 * without a word, and a failure is an unhandled rejection that ends the process.
 */
export class ClusterSubscriber implements RedisSubscriber {
  readonly #commands: ClusterCommands
  readonly #links = new Map<string, RedisLink>()
  /** The channels that are wanted. */
  readonly #channels = new Map<string, Wanted>()
  readonly #resubscribing = new Set<string>()
  /** Why the last link was lost, which is gone when its channels ask. */
  #lostBecause = 'channels have no node'
  #listener: SubscriberListener | undefined
  #checking: NodeJS.Timeout | undefined

  constructor (commands: ClusterCommands) {
    this.#commands = commands
  }

  get ready (): boolean { return this.#unassigned().length === 0 }
  get reason (): string { return Array.from(this.#links.values()).find(link => !link.ready)?.reason ?? this.#lostBecause }

  open (listener: SubscriberListener): void {
    this.#listener = listener
    this.#checking = setInterval(() => {
      this.#resubscribeAll()
      this.#verifyAll()
    }, CHECK_INTERVAL).unref()
  }

  async subscribe (pubsub: string, listener: MessageListener): Promise<void> {
    const link = await this.#subscribeAtOwner(pubsub, listener)
    this.#channels.set(pubsub, { listener, link })
  }

  unsubscribe (pubsub: string, listener: MessageListener): void {
    const wanted = this.#channels.get(pubsub)
    if (wanted?.listener === listener) {
      this.#channels.delete(pubsub)
      if (wanted.link === undefined) this.#listener?.changed()
      unsubscribeAt(wanted.link, pubsub, listener)
    } else {
      // Left over on a connection that broke before the unsubscribe was sent.
      for (const link of this.#links.values()) unsubscribeAt(link, pubsub, listener)
    }
  }

  async close (): Promise<void> {
    clearInterval(this.#checking)
    this.#channels.clear()
    await Promise.all(Array.from(this.#links.values(), link => link.close()))
  }

  /** Channels that have no connection. */
  #unassigned (): string[] {
    return Array.from(this.#channels.keys()).filter(pubsub => !this.#channels.get(pubsub)?.link?.ready)
  }

  async #subscribeAtOwner (pubsub: string, listener: MessageListener): Promise<RedisLink> {
    try {
      return await subscribeAt(await this.#linkTo(pubsub), pubsub, listener)
    } catch (error) {
      if (!isMoved(error)) throw error
      // A command for this slot makes the cluster find out about its new owner.
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
      link = new RedisLink(duplicateClient(node))
      link.client.setMaxListeners(0) // many channels may wait for it at once
      this.#links.set(address, link)
      this.#watch(link, address)
    }
    if (!link.ready) await this.#untilReady(link, address)
    return link
  }

  #watch (link: RedisLink, address: string): void {
    link.client.on('sharded-channel-moved', (pubsub: string) => {
      if (this.#channels.has(pubsub)) this.#moved(pubsub) // or it was left at that moment
    })
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

  /** Its node may be gone for good: who owns its channels now is found out anew. */
  #drop (link: RedisLink, address: string): void {
    if (this.#links.get(address) === link) this.#links.delete(address)
    link.close()
  }

  async #untilReady (link: RedisLink, address: string): Promise<void> {
    try {
      await withDeadline(once(link.client, 'ready')) // rejects at the first 'error'
    } catch {
      this.#drop(link, address)
      throw new RedisUnavailableError(link.reason)
    }
  }

  #verifyAll (): void {
    for (const [address, link] of this.#links) {
      if (link.ready) this.#verify(link, address).catch(() => {}) // tried again in the next round
    }
  }

  /**
   * A node tells its subscribers when it gives a slot away, but node-redis takes that for the answer to a command, if
   * one is under way, and the channel would be silent from then on. So the nodes are asked how many subscriptions a
   * link has.
   */
  async #verify (link: RedisLink, address: string): Promise<void> {
    const expected = Array.from(this.#channels.values()).filter(({ link: assigned }) => assigned === link).length
    const info = await withDeadline(link.client.sendCommand(['CLIENT', 'INFO']))
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

  /** Subscribes a channel at its owner again. What fails is tried again in the next round. */
  #resubscribe (pubsub: string): void {
    const wanted = this.#channels.get(pubsub)
    if (wanted === undefined || this.#resubscribing.has(pubsub)) return
    this.#resubscribing.add(pubsub)
    this.#subscribeAtOwner(pubsub, wanted.listener).then(link => {
      if (this.#channels.get(pubsub) !== wanted) return unsubscribeAt(link, pubsub, wanted.listener)
      wanted.link = link
      this.#listener?.restored(pubsub)
      this.#listener?.changed()
    }, () => {}).finally(() => this.#resubscribing.delete(pubsub)) // its connection, or the cluster, says why
  }
}

/** Subscribing twice over the same connection costs nothing: node-redis knows what it has. */
async function subscribeAt (link: RedisLink, pubsub: string, listener: MessageListener): Promise<RedisLink> {
  await withDeadline(link.client.sSubscribe(pubsub, listener, true))
  return link
}

/** Fails only with the connection. A subscription that survives that is ended when its next message comes. */
function unsubscribeAt (link: RedisLink | undefined, pubsub: string, listener: MessageListener): void {
  link?.client.sUnsubscribe(pubsub, listener, true)?.catch(() => {})
}

function isMoved (error: unknown): boolean {
  return error instanceof Error && error.message.includes('MOVED')
}
