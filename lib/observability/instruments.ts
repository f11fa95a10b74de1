import { createNoopMeter, metrics, ValueType } from '@opentelemetry/api'
import type { Attributes, BatchObservableResult, Histogram, Meter, MeterProvider, Observable } from '@opentelemetry/api'

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
  skipped: 'websocket.server.publications.skipped',
  publishDuration: 'websocket.bridge.publish.duration',
  deliveryLag: 'websocket.bridge.delivery.lag',
  up: 'websocket.bridge.up',
  drainDuration: 'websocket.drain.duration'
} as const

/** Seconds. A connection lives for up to an hour; a publish for at most two seconds. */
const CONNECTION_BUCKETS = [1, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 2_700, 3_300, 3_600]
const FAST_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const DRAIN_BUCKETS = [0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

/** Those whose value is asked for when metrics are collected: sums, which a closed app still has a share in, and gauges. */
const sums = ['rejected', 'messages', 'io', 'recoveries', 'missed', 'skipped', 'active', 'subscriptions'] as const
type Sum = typeof sums[number]
export type Observed = Sum | 'limit' | 'up'

/** What one app shows of one instrument. */
export type Sample = readonly [instrument: Observed, value: number, attributes?: Attributes]

export interface Source {
  samples (): readonly Sample[]
}

export const SCOPE = 'fastify-cloud-run-websocket'
const Noop = createNoopMeter().constructor

/** The meter provider that the host or we have registered. Until then the API stands in with one whose meters do nothing. */
export function registeredProvider (): MeterProvider | undefined {
  const provider = metrics.getMeterProvider()
  return provider.getMeter(SCOPE) instanceof Noop ? undefined : provider
}

const known = new WeakMap<MeterProvider, Instruments>()

/** Those of the meter provider that is registered now, shared by all apps of this process; undefined while there is none. */
export function registeredInstruments (): Instruments | undefined {
  const provider = registeredProvider()
  if (provider === undefined) return undefined
  const instruments = known.get(provider) ?? new Instruments(provider.getMeter(SCOPE))
  known.set(provider, instruments)
  return instruments
}

export class Instruments {
  readonly duration: Histogram
  readonly commandDuration: Histogram
  readonly publishDuration: Histogram
  readonly deliveryLag: Histogram
  readonly drainDuration: Histogram
  readonly #meter: Meter
  readonly #observables: Record<Observed, Observable>
  readonly #sources = new Set<Source>()
  /** Of apps that are closed: a counter never goes back, and what they had open is down to zero. */
  #closed: readonly Sample[] = []

  constructor (meter: Meter) {
    this.#meter = meter
    const whole = { valueType: ValueType.INT }
    const seconds = (boundaries: number[], description: string) => ({ unit: 's', description, advice: { explicitBucketBoundaries: boundaries } })
    this.duration = meter.createHistogram(metricNames.duration, seconds(CONNECTION_BUCKETS, 'Age of connections that ended'))
    this.commandDuration = meter.createHistogram(metricNames.commandDuration, seconds(FAST_BUCKETS, 'Commands of SDK clients, until they are answered'))
    this.publishDuration = meter.createHistogram(metricNames.publishDuration, seconds(FAST_BUCKETS, 'Publishing, until stored or handed on'))
    this.deliveryLag = meter.createHistogram(metricNames.deliveryLag, seconds(FAST_BUCKETS, 'From publish on one instance to frame on another'))
    this.drainDuration = meter.createHistogram(metricNames.drainDuration, seconds(DRAIN_BUCKETS, 'Closing all connections at shutdown'))
    this.#observables = {
      active: meter.createObservableUpDownCounter(metricNames.active, { ...whole, unit: '{connection}', description: 'Open connections' }),
      rejected: meter.createObservableCounter(metricNames.rejected, { ...whole, unit: '{connection}', description: 'Upgrades refused' }),
      limit: meter.createObservableGauge(metricNames.limit, { ...whole, unit: '{connection}', description: 'Connections this instance may hold' }),
      messages: meter.createObservableCounter(metricNames.messages, { ...whole, unit: '{message}', description: 'Messages received and sent' }),
      io: meter.createObservableCounter(metricNames.io, { ...whole, unit: 'By', description: 'Payload received and sent' }),
      subscriptions: meter.createObservableUpDownCounter(metricNames.subscriptions, { ...whole, unit: '{subscription}', description: 'Channels of all connections' }),
      recoveries: meter.createObservableCounter(metricNames.recoveries, { ...whole, unit: '{recovery}', description: 'Subscriptions that named a position' }),
      missed: meter.createObservableCounter(metricNames.missed, { ...whole, unit: '{publication}', description: 'Publications lost for good' }),
      skipped: meter.createObservableCounter(metricNames.skipped, { ...whole, unit: '{publication}', description: 'Publications that a slow client did not get because a later one took their place' }),
      up: meter.createObservableGauge(metricNames.up, { ...whole, unit: '1', description: '0 while publications of other instances can not arrive' })
    }
  }

  add (source: Source): void {
    if (this.#sources.size === 0) this.#meter.addBatchObservableCallback(this.#observe, Object.values(this.#observables))
    this.#sources.add(source)
  }

  remove (source: Source): void {
    if (!this.#sources.delete(source)) return
    this.#closed = total([...this.#closed, ...source.samples().filter(([instrument]) => sums.includes(instrument as Sum))])
  }

  /** An SDK repeats what it has read last: so it reads once more how the last app ended. */
  #forget (): void {
    if (this.#sources.size === 0) this.#meter.removeBatchObservableCallback(this.#observe, Object.values(this.#observables))
  }

  // Several apps in a process have the same series, of which an SDK would keep what the last one said.
  readonly #observe = (result: BatchObservableResult): void => {
    const samples = Array.from(this.#sources, source => source.samples()).flat()
    for (const [instrument, value, attributes] of total([...this.#closed, ...samples])) result.observe(this.#observables[instrument], value, attributes)
    if (this.#sources.size === 0) queueMicrotask(() => this.#forget()) // not while the SDK goes through its callbacks
  }
}

/** One sample per instrument and attributes: the sum, and of `up` the worst. */
function total (samples: readonly Sample[]): readonly Sample[] {
  const totals = new Map<string, Sample>()
  for (const [instrument, value, attributes = {}] of samples) {
    const key = JSON.stringify([instrument, attributes])
    const before = totals.get(key)?.[1]
    const sum = before === undefined ? value : instrument === 'up' ? Math.min(before, value) : before + value
    totals.set(key, [instrument, sum, attributes])
  }
  return Array.from(totals.values())
}
