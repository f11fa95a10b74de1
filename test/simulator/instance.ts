import { RedisBroker } from '../../lib/backends/redis/broker.ts'
import { RedisKeys } from '../../lib/backends/redis/keys.ts'
import type { DeliveryObserver } from '../../lib/hub/delivery-observer.ts'
import { Hub } from '../../lib/hub/hub.ts'
import type { ChannelListener } from '../../lib/model/broker.ts'
import type { ChannelNamespaces } from '../../lib/model/channel-rules.ts'
import { decodePayload, encodePayload, newPublication } from '../../lib/model/publication.ts'
import type { Publication } from '../../lib/model/publication.ts'
import type { Acknowledged, Numbered } from '../faults/checker.ts'
import type { Random } from './random.ts'
import { ModelCommands, ModelSubscriber } from './redis-model.ts'
import type { RedisServer } from './redis-model.ts'

/** Milliseconds between two looks at quiet channels. In production they are 30 s. */
const POSITION_CHECK = 3_000
/** Milliseconds between two sweeps of the hub. */
const SWEEP = 1_000
const MAX_RECOVERY = 500_000

/** What an instance was given of a channel without history, and was told that it has missed. */
interface Received {
  /** The numbers of each publisher since the broker subscribed last. */
  numbers: Map<string, number[]>
  missed: number
  /** Of the subscriptions before. */
  readonly before: Array<{ numbers: Map<string, number[]>, missed: number }>
}

/** One instance: its links to Redis are of the model, its broker and its hub are the real ones. */
export class SimulatedInstance implements DeliveryObserver {
  readonly recording = true
  readonly id: string
  readonly commands: ModelCommands
  readonly subscriber: ModelSubscriber
  readonly hub: Hub
  readonly received = new Map<string, Received>()
  readonly #broker: RedisBroker
  readonly #namespaces: ChannelNamespaces
  readonly #numbers = new Map<string, number>()
  /** Publishers that are still trying. */
  readonly retrying = new Set<string>()
  #retries = 0
  readonly #sweeping: NodeJS.Timeout
  running = true

  constructor (id: string, server: RedisServer, namespaces: ChannelNamespaces, random: Random) {
    this.id = id
    this.#namespaces = namespaces
    this.commands = new ModelCommands(server, random)
    this.subscriber = new ModelSubscriber(server, random)
    this.#broker = new RedisBroker(this.commands, this.subscriber, new RedisKeys('sim'), POSITION_CHECK)
    this.hub = new Hub(this.#watched(), namespaces, MAX_RECOVERY, this)
    this.#broker.start({ stateChanged () {}, missed () {} })
    this.#sweeping = setInterval(() => this.hub.sweep(Date.now()), SWEEP)
  }

  /** Publishes without waiting for those before. Writes down what Redis acknowledged. */
  async publish (channel: string, acknowledged: Acknowledged[]): Promise<void> {
    const publication = this.#next(this.id, channel)
    const { offset = 0, epoch = '' } = await this.#broker.publish(channel, publication, { history: this.#namespaces.rules(channel).history })
    acknowledged.push({ ...decodePayload(publication) as Numbered, offset, epoch })
  }

  /** Publishes again and again, with the same idempotency key, until Redis acknowledges it. */
  async publishSurely (channel: string, acknowledged: Acknowledged[]): Promise<void> {
    // A publisher of its own: nobody promises an order to publications that are tried again.
    const idempotencyKey = `${this.id} retry ${++this.#retries}`
    const publication = this.#next(idempotencyKey, channel)
    const { history } = this.#namespaces.rules(channel)
    this.retrying.add(idempotencyKey)
    while (this.running) {
      try {
        const { offset = 0, epoch = '' } = await this.#broker.publish(channel, publication, { history, idempotencyKey })
        acknowledged.push({ ...decodePayload(publication) as Numbered, offset, epoch })
        this.retrying.delete(idempotencyKey)
        return
      } catch {
        await new Promise(resolve => { setTimeout(resolve, 100) })
      }
    }
  }

  /** Ends as a crash does. */
  crash (): void {
    this.running = false
    clearInterval(this.#sweeping)
    this.#broker.close()
  }

  delivered (channel: string, publication: Publication): void {
    if (publication.offset !== 0) return
    const { publisher, number } = decodePayload(publication) as Numbered
    const { numbers } = this.#receivedOf(channel)
    const ofPublisher = numbers.get(publisher)
    if (ofPublisher === undefined) numbers.set(publisher, [number])
    else ofPublisher.push(number)
  }

  missed (channel: string, count: number): void {
    this.#receivedOf(channel).missed += count
  }

  #next (publisher: string, channel: string): Publication {
    const key = `${publisher} ${channel}`
    const number = (this.#numbers.get(key) ?? 0) + 1
    this.#numbers.set(key, number)
    return newPublication(this.id, encodePayload({ publisher, number }))
  }

  #receivedOf (channel: string): Received {
    let received = this.received.get(channel)
    if (received === undefined) this.received.set(channel, received = { numbers: new Map(), missed: 0, before: [] })
    return received
  }

  /** The broker, with a note of each subscribe: what precedes the first publication of a publisher nobody can count. */
  #watched (): RedisBroker {
    return Object.assign(Object.create(this.#broker), {
      history: this.#broker.history.bind(this.#broker),
      unsubscribe: this.#broker.unsubscribe.bind(this.#broker),
      subscribe: (channel: string, history: boolean, listener: ChannelListener) => {
        const received = this.#receivedOf(channel)
        received.before.push({ numbers: received.numbers, missed: received.missed })
        received.numbers = new Map()
        received.missed = 0
        return this.#broker.subscribe(channel, history, listener)
      }
    })
  }
}
