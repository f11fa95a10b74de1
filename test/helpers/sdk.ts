import type { FastifyServerOptions } from 'fastify'
import { Centrifuge as JsonClient } from 'centrifuge'
import type {
  Centrifuge, ClientEvents, Options as SdkOptions, PublicationContext, SubscribedContext, Subscription, SubscriptionEvents,
  SubscriptionOptions, TransportEndpoint
} from 'centrifuge'
import { Centrifuge as ProtobufClient } from 'centrifuge/build/protobuf'
import type { Test } from 'tap'
import WebSocket from 'ws'
import type { Options } from '../../index.ts'
import { startApp } from './app.ts'
import type { App } from './app.ts'
import { randomPrefix } from './prefix.ts'
import { until } from './until.ts'

export type Encoding = 'json' | 'protobuf'
export const encodings: readonly Encoding[] = ['json', 'protobuf']

type Events<Map> = { [Name in keyof Map]: Map[Name] extends (context: infer Context) => void ? Context[] : never }

const clientEvents = [
  'connecting', 'connected', 'disconnected', 'message', 'error', 'subscribed', 'subscribing', 'unsubscribed', 'publication', 'join', 'leave'
] as const
const subscriptionEvents = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error'] as const

/** One subscription of an SDK client, with all of its events. */
export class SdkSubscription {
  readonly sub: Subscription
  readonly events: Events<Pick<SubscriptionEvents, typeof subscriptionEvents[number]>>
  /** The `subscribed` and `publication` events, in the order in which they came. */
  readonly log: Array<SubscribedContext | PublicationContext> = []
  readonly #dec: (data: unknown) => unknown

  constructor (sub: Subscription, dec: (data: unknown) => unknown) {
    this.sub = sub
    this.#dec = dec
    this.events = collect(sub as never, subscriptionEvents)
    sub.on('subscribed', context => this.log.push(context))
    sub.on('publication', context => this.log.push(context))
    sub.subscribe()
  }

  /** Decodes the data of any publication. */
  dec (publication: PublicationContext): unknown { return this.#dec(publication.data) }

  /** Data of the publications, in the order in which they came. */
  get data (): unknown[] { return this.events.publication.map(({ data }) => this.#dec(data)) }
  get offsets (): (number | undefined)[] { return this.events.publication.map(({ offset }) => offset) }

  async arrived (count: number): Promise<this> {
    await until(() => this.events.publication.length >= count, `${count} publications in ${this.sub.channel}`, 30_000)
    return this
  }

  /** Waits until it was subscribed `times` times. */
  async subscribed (times = 1): Promise<this> {
    await until(() => this.events.subscribed.length >= times, `subscribed ${times} times to ${this.sub.channel}`, 60_000)
    return this
  }

  /** Waits for its end, and returns the reason. */
  async unsubscribed (): Promise<{ code: number, reason: string }> {
    const end = await until(() => this.events.unsubscribed[0], `unsubscribed from ${this.sub.channel}`, 30_000)
    return { code: end!.code, reason: end!.reason }
  }
}

/** A client as an app has it. Data is encoded and decoded as apps do it: SDKs that speak Protobuf carry bytes. */
export class SdkClient {
  readonly client: Centrifuge
  readonly encoding: Encoding
  readonly events: Events<Pick<ClientEvents, typeof clientEvents[number]>>

  constructor (url: string | TransportEndpoint[], encoding: Encoding, { data, ...options }: Partial<SdkOptions> = {}) {
    this.encoding = encoding
    const Client = encoding === 'json' ? JsonClient : ProtobufClient as unknown as typeof JsonClient
    this.client = new Client(typeof url !== 'string' || url.includes('?') ? url : `${url}/connection/websocket`, {
      websocket: WebSocket,
      minReconnectDelay: 20,
      maxReconnectDelay: 500,
      timeout: 20_000,
      ...options,
      ...(data !== undefined && { data: this.enc(data) })
    })
    this.events = collect(this.client as never, clientEvents)
    this.client.connect()
  }

  /** Encodes data as the SDK takes it. */
  enc = (data: unknown): unknown => {
    if (this.encoding === 'json' || data instanceof Uint8Array) return data
    return new TextEncoder().encode(JSON.stringify(data))
  }

  /** Decodes data as the SDK returns it; gives a Buffer where it is not JSON. */
  dec = (data: unknown): unknown => {
    if (this.encoding === 'json' || data === undefined || data === null) return data
    const bytes = Buffer.from(data as Uint8Array)
    try {
      return JSON.parse(bytes.toString())
    } catch {
      return bytes
    }
  }

  async connected (times = 1): Promise<this> {
    await until(() => this.events.connected.length >= times, `connected ${times} times`, 60_000)
    return this
  }

  /** The id of its newest connection. */
  get id (): string { return this.events.connected.at(-1)?.client ?? '' }

  /** Waits until it has given up, and returns the reason. */
  async disconnected (): Promise<{ code: number, reason: string }> {
    const end = await until(() => this.events.disconnected[0], 'disconnected', 60_000)
    return { code: end!.code, reason: end!.reason }
  }

  subscribe (channel: string, { data, ...options }: SubscriptionOptions = {}): SdkSubscription {
    const all = { minResubscribeDelay: 20, maxResubscribeDelay: 500, ...options, ...(data !== undefined && { data: this.enc(data) }) }
    return new SdkSubscription(this.client.newSubscription(channel, all), this.dec)
  }

  async publish (channel: string, data: unknown): Promise<void> {
    await this.client.publish(channel, this.enc(data))
  }

  async rpc (method: string, data: unknown): Promise<unknown> {
    const result = await this.client.rpc(method, this.enc(data))
    return this.dec(result.data)
  }

  /** Data of the messages that the server sent to this client alone. */
  get messages (): unknown[] { return this.events.message.map(({ data }) => this.dec(data)) }

  /** Data of the publications of one server-side subscription. */
  data (channel: string): unknown[] {
    return this.events.publication.filter(one => one.channel === channel).map(({ data }) => this.dec(data))
  }
}

interface Emitter<Name> { on (name: Name, listener: (context: never) => void): unknown }

function collect<Map, Name extends keyof Map> (emitter: Emitter<Name>, names: readonly Name[]): Events<Pick<Map, Name>> {
  const events = {} as Record<Name, unknown[]>
  for (const name of names) {
    const contexts: unknown[] = events[name] = []
    emitter.on(name, context => contexts.push(context))
  }
  return events as Events<Pick<Map, Name>>
}

/** A client that connects at once and disconnects with the test. A URL without a query gets the SDK route's path. */
export function sdkClient (t: Test, url: string | TransportEndpoint[], encoding: Encoding, options: Partial<SdkOptions> = {}): SdkClient {
  const client = new SdkClient(url, encoding, options)
  t.teardown(() => client.client.disconnect())
  return client
}

/** Starts instances of one service. Without Redis there can only be one. */
export async function startInstances (
  t: Test, n: number, options: Options = {}, redis?: { url: string }, fastifyOptions: FastifyServerOptions = {}
): Promise<App[]> {
  const all: Options = { keyPrefix: randomPrefix(), redis: redis?.url ?? false, ...options }
  return Promise.all(Array.from({ length: n }, () => startApp(t, all, fastifyOptions)))
}
