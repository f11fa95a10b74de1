import { createNoopMeter, metrics, ValueType } from '@opentelemetry/api'
import type { BatchObservableResult, Counter, Histogram, Observable } from '@opentelemetry/api'
import type { End } from './close-codes.ts'
import type { Connection } from './connection.ts'

/** Names, units and attributes are those of the README's list; a test compares the two. */
export const metricNames = {
  active: 'websocket.server.connection.active',
  duration: 'websocket.server.connection.duration',
  rejected: 'websocket.server.connection.rejected',
  limit: 'websocket.server.connection.limit',
  messages: 'websocket.server.messages',
  io: 'websocket.server.io',
  commandDuration: 'websocket.server.command.duration',
  subscriptions: 'websocket.server.subscription.active',
  recoveries: 'websocket.server.recoveries',
  missed: 'websocket.server.publications.missed',
  publishDuration: 'websocket.bridge.publish.duration',
  deliveryLag: 'websocket.bridge.delivery.lag',
  up: 'websocket.bridge.up',
  drainDuration: 'websocket.drain.duration'
} as const

/** Why an upgrade was refused, as in the attribute `error.type`. */
export type Rejection = 'capacity' | 'origin' | 'auth' | 'rate_limit' | 'draining'

/** What the gauges read. */
export interface Observed {
  readonly connections: ReadonlyMap<string, Connection>
  readonly hub: { readonly subscriptions: number }
  readonly broker: { readonly up: boolean }
  readonly limit: number
}

/** Seconds. A connection lives for up to an hour; a publish for at most two seconds. */
const CONNECTION_BUCKETS = [1, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 2_700, 3_300, 3_600]
const FAST_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const DRAIN_BUCKETS = [0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

const PROTOCOLS = ['plain', 'json', 'protobuf'] as const

class Traffic {
  messagesIn = 0
  messagesOut = 0
  bytesIn = 0
  bytesOut = 0

  add ({ received, sent, bytesReceived, bytesSent }: Connection): void {
    this.messagesIn += received
    this.messagesOut += sent
    this.bytesIn += bytesReceived
    this.bytesOut += bytesSent
  }
}

/**
 * What the instance tells OpenTelemetry. What happens per message is counted in plain fields of the connection and read when
 * metrics are collected, so that it costs the same with and without an SDK.
 */
export class Metrics {
  readonly #rejected: Counter
  readonly #duration: Histogram
  readonly #commandDuration: Histogram
  readonly #recoveries: Counter
  readonly #missed: Counter
  readonly #publishDuration: Histogram
  readonly #deliveryLag: Histogram
  readonly #drainDuration: Histogram
  readonly #observables: Record<'active' | 'limit' | 'messages' | 'io' | 'subscriptions' | 'up', Observable>
  readonly #meter
  /** Of connections that have ended. */
  readonly #ended = { plain: new Traffic(), json: new Traffic(), protobuf: new Traffic() }
  #observe: ((result: BatchObservableResult) => void) | undefined
  #closed = false

  constructor (telemetry: 'auto' | false) {
    const meter = this.#meter = telemetry === false ? createNoopMeter() : metrics.getMeter('fastify-cloud-run-websocket')
    const whole = { valueType: ValueType.INT }
    const seconds = (boundaries: number[], description: string) => ({ unit: 's', description, advice: { explicitBucketBoundaries: boundaries } })
    this.#rejected = meter.createCounter(metricNames.rejected, { ...whole, unit: '{connection}', description: 'Upgrades refused' })
    this.#duration = meter.createHistogram(metricNames.duration, seconds(CONNECTION_BUCKETS, 'Age of connections that ended'))
    this.#commandDuration = meter.createHistogram(metricNames.commandDuration, seconds(FAST_BUCKETS, 'Commands of SDK clients, until they are answered'))
    this.#recoveries = meter.createCounter(metricNames.recoveries, { ...whole, unit: '{recovery}', description: 'Subscriptions that named a position' })
    this.#missed = meter.createCounter(metricNames.missed, { ...whole, unit: '{publication}', description: 'Publications lost for good' })
    this.#publishDuration = meter.createHistogram(metricNames.publishDuration, seconds(FAST_BUCKETS, 'Publishing, until stored or handed on'))
    this.#deliveryLag = meter.createHistogram(metricNames.deliveryLag, seconds(FAST_BUCKETS, 'From publish on one instance to frame on another'))
    this.#drainDuration = meter.createHistogram(metricNames.drainDuration, seconds(DRAIN_BUCKETS, 'Closing all connections at shutdown'))
    this.#observables = {
      active: meter.createObservableUpDownCounter(metricNames.active, { ...whole, unit: '{connection}', description: 'Open connections' }),
      limit: meter.createObservableGauge(metricNames.limit, { ...whole, unit: '{connection}', description: 'Connections this instance may hold' }),
      messages: meter.createObservableCounter(metricNames.messages, { ...whole, unit: '{message}', description: 'Messages received and sent' }),
      io: meter.createObservableCounter(metricNames.io, { ...whole, unit: 'By', description: 'Payload received and sent' }),
      subscriptions: meter.createObservableUpDownCounter(metricNames.subscriptions, { ...whole, unit: '{subscription}', description: 'Channels of all connections' }),
      up: meter.createObservableGauge(metricNames.up, { ...whole, unit: '1', description: '0 while publications of other instances can not arrive' })
    }
  }

  /** From now on the gauges show this. */
  observe (observed: Observed): void {
    this.#observe = result => {
      this.#read(result, observed)
      if (this.#closed) queueMicrotask(() => this.#forget()) // not while the SDK goes through its callbacks
    }
    this.#meter.addBatchObservableCallback(this.#observe, Object.values(this.#observables))
  }

  /** An SDK repeats what it has read last, so it reads once more how it ended. */
  close (): void {
    this.#closed = true
  }

  #forget (): void {
    if (this.#observe !== undefined) this.#meter.removeBatchObservableCallback(this.#observe, Object.values(this.#observables))
  }

  rejected (type: Rejection): void {
    this.#rejected.add(1, { 'error.type': type })
  }

  connectionEnded (connection: Connection, { cause }: End): void {
    this.#ended[connection.protocol].add(connection)
    this.#duration.record((Date.now() - connection.connectedAt) / 1_000, { 'websocket.protocol': connection.protocol, 'websocket.close.cause': cause })
  }

  /** ms; `errorType` is the code of the error reply, or 'disconnect'. */
  commandDone (command: string, duration: number, errorType: string | undefined): void {
    this.#commandDuration.record(duration / 1_000, { 'websocket.command': command, ...(errorType !== undefined && { 'error.type': errorType }) })
  }

  recovery (recovered: boolean): void {
    this.#recoveries.add(1, { 'websocket.recovery.outcome': recovered ? 'recovered' : 'unrecovered' })
  }

  missed (count: number): void {
    this.#missed.add(count)
  }

  /** ms */
  published (duration: number, errorType: string | undefined): void {
    this.#publishDuration.record(duration / 1_000, errorType === undefined ? {} : { 'error.type': errorType })
  }

  /** ms; the clocks of two instances may differ, but nothing arrives before it was sent. */
  delivered (lag: number): void {
    this.#deliveryLag.record(Math.max(0, lag) / 1_000)
  }

  /** ms */
  drained (duration: number): void {
    this.#drainDuration.record(duration / 1_000)
  }

  #read (result: BatchObservableResult, observed: Observed): void {
    const { active, limit, messages, io, subscriptions, up } = this.#observables
    let bytesIn = 0
    let bytesOut = 0
    for (const protocol of PROTOCOLS) {
      const living = Array.from(observed.connections.values()).filter(connection => connection.protocol === protocol)
      const traffic = Object.assign(new Traffic(), this.#ended[protocol])
      for (const connection of living) traffic.add(connection)
      bytesIn += traffic.bytesIn
      bytesOut += traffic.bytesOut
      const attributes = { 'websocket.protocol': protocol }
      result.observe(active, living.length, attributes)
      result.observe(messages, traffic.messagesIn, { ...attributes, 'network.io.direction': 'receive' })
      result.observe(messages, traffic.messagesOut, { ...attributes, 'network.io.direction': 'transmit' })
    }
    result.observe(io, bytesIn, { 'network.io.direction': 'receive' })
    result.observe(io, bytesOut, { 'network.io.direction': 'transmit' })
    result.observe(limit, observed.limit)
    result.observe(subscriptions, observed.hub.subscriptions)
    result.observe(up, observed.broker.up ? 1 : 0)
  }
}
