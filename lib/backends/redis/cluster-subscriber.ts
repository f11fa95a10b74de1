import { once } from 'node:events'
import { RedisUnavailableError } from '../../model/errors.ts'
import { withDeadline } from './commands.ts'
import type { ClusterCommands } from './cluster-commands.ts'
import { duplicateClient, RedisLink } from './link.ts'
import type { RedisSubscriber, SubscriberListener } from './subscriber.ts'

/** ms between two rounds that ask each node for its subscriptions, and look for the owner of channels that have lost theirs. */
const CHECK_INTERVAL = 1_000

/**
 * Sharded Pub/Sub: every channel is subscribed at the node that owns its slot, over one link to each such node.
 * node-redis can do this too, but it subscribes again without waiting after a node was lost: messages are missed without
 * a word, and a failure is an unhandled rejection that ends the process.
 */
export class ClusterSubscriber implements RedisSubscriber {
  readonly #commands: ClusterCommands
  readonly #links = new Map<string, RedisLink>()
  /** The link over which a wanted channel is subscribed; undefined while it has none. */
  readonly #channels = new Map<string, RedisLink | undefined>()
  readonly #settling = new Set<string>()
  /** Why the last link was lost, which is gone when its channels ask. */
  #lostBecause = 'channels have no node'
  #listener: SubscriberListener | undefined
  #checking: NodeJS.Timeout | undefined

  constructor (commands: ClusterCommands) {
    this.#commands = commands
  }

  get ready (): boolean { return this.#homeless().length === 0 }
  get reason (): string { return Array.from(this.#links.values()).find(link => !link.ready)?.reason ?? this.#lostBecause }

  open (listener: SubscriberListener): void {
    this.#listener = listener
    this.#checking = setInterval(() => {
      this.#settleAll()
      this.#verifyAll()
    }, CHECK_INTERVAL).unref()
  }

  async subscribe (pubsub: string): Promise<void> {
    const link = await this.#subscribeAtOwner(pubsub)
    this.#channels.set(pubsub, link)
  }

  unsubscribe (pubsub: string): void {
    const link = this.#channels.get(pubsub)
    this.#channels.delete(pubsub)
    if (link === undefined) this.#listener?.changed()
    // Fails only with the link; a subscription that survives that is ended when its next message comes.
    link?.client.sUnsubscribe(pubsub, this.#onMessage, true)?.catch(() => {})
  }

  async close (): Promise<void> {
    clearInterval(this.#checking)
    this.#channels.clear()
    await Promise.all(Array.from(this.#links.values(), link => link.close()))
  }

  readonly #onMessage = (bytes: Buffer, pubsub: Buffer): void => {
    this.#listener?.message(pubsub.toString(), bytes)
  }

  #homeless (): string[] {
    return Array.from(this.#channels.keys()).filter(pubsub => !this.#channels.get(pubsub)?.ready)
  }

  async #subscribeAtOwner (pubsub: string): Promise<RedisLink> {
    try {
      return await this.#subscribeAt(await this.#linkTo(pubsub), pubsub)
    } catch (error) {
      if (!isMoved(error)) throw error
      // A command for this slot makes the cluster find out about its new owner.
      await this.#commands.send(pubsub, ['EXISTS', pubsub])
      return this.#subscribeAt(await this.#linkTo(pubsub), pubsub)
    }
  }

  /** Subscribing twice over the same link costs nothing: node-redis knows what it has. */
  async #subscribeAt (link: RedisLink, pubsub: string): Promise<RedisLink> {
    await withDeadline(link.client.sSubscribe(pubsub, this.#onMessage, true))
    return link
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
    for (const [pubsub, its] of this.#channels) {
      if (its === link) this.#lost(pubsub)
    }
    this.#listener?.changed()
    this.#settleAll()
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
   * A node tells its subscribers when it gives a slot away, but node-redis takes that for the answer to a command, if one
   * is under way, and the channel would be silent from then on. So the nodes are asked how many subscriptions a link has.
   */
  async #verify (link: RedisLink, address: string): Promise<void> {
    const expected = Array.from(this.#channels.values()).filter(its => its === link).length
    const info = await withDeadline(link.client.sendCommand(['CLIENT', 'INFO']))
    const subscribed = Number(/ ssub=(\d+)/.exec(String(info))?.[1])
    if (subscribed < expected) this.#lose(link, address)
  }

  #moved (pubsub: string): void {
    this.#lost(pubsub)
    this.#settle(pubsub)
  }

  #lost (pubsub: string): void {
    this.#channels.set(pubsub, undefined)
    this.#listener?.lost(pubsub)
  }

  #settleAll (): void {
    for (const pubsub of this.#homeless()) this.#settle(pubsub)
  }

  /** Finds a channel's link again; what fails is tried again in the next round. */
  #settle (pubsub: string): void {
    if (this.#settling.has(pubsub)) return
    this.#settling.add(pubsub)
    this.#subscribeAtOwner(pubsub).then(link => {
      const wanted = this.#channels.has(pubsub)
      this.#channels.set(pubsub, link)
      if (!wanted) return this.unsubscribe(pubsub)
      this.#listener?.restored(pubsub)
      this.#listener?.changed()
    }, () => {}).finally(() => this.#settling.delete(pubsub)) // its link, or the cluster, says why
  }
}

function isMoved (error: unknown): boolean {
  return error instanceof Error && error.message.includes('MOVED')
}
