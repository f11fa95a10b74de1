import { createNoopMeter, metrics, ValueType } from '@opentelemetry/api'
import type { Attributes, BatchObservableResult, Histogram, Meter, MeterProvider, Observable } from '@opentelemetry/api'

/** A test compares the names with the reference's list. */
export const metricNames = {
  active: 'websocket.server.connection.active',
  opened: 'websocket.server.connection.opened',
  closed: 'websocket.server.connection.closed',
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
  downtime: 'websocket.bridge.downtime',
  drainDuration: 'websocket.drain.duration'
} as const

/** Bucket boundaries in seconds. A connection lives up to an hour; a publish takes two seconds at most. */
const CONNECTION_BUCKETS = [1, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 2_700, 3_300, 3_600]
const FAST_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const DRAIN_BUCKETS = [0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

/** Instruments that are read on collection, and in which a closed app keeps its share. */
const kept = [
  'opened', 'closed', 'rejected', 'messages', 'io', 'recoveries', 'missed', 'skipped', 'downtime', 'active', 'subscriptions'
] as const
type Kept = typeof kept[number]
/** Instruments that are read on collection: those, and gauges. */
type ObservableName = Kept | 'limit' | 'up'

/** Value of one instrument in one app. The downtime is in whole ms: their sums are exact, so none ever decreases. */
export type Sample = readonly [instrument: ObservableName, value: number, attributes?: Attributes]

/** One app. */
interface Source {
  samples (): readonly Sample[]
}

export const SCOPE = 'fastify-cloud-run-websocket'
const Noop = createNoopMeter().constructor

/** The meter provider that the app or this plugin has registered. Before that, the API returns a no-op provider. */
export function registeredProvider (): MeterProvider | undefined {
  const provider = metrics.getMeterProvider()
  return provider.getMeter(SCOPE) instanceof Noop ? undefined : provider
}

const known = new WeakMap<MeterProvider, Instruments>()

/** Instruments of the registered meter provider, shared by all apps of this process. undefined without a provider. */
export function registeredInstruments (): Instruments | undefined {
  const provider = registeredProvider()
  if (provider === undefined) return undefined
  const instruments = known.get(provider) ?? new Instruments(provider.getMeter(SCOPE))
  known.set(provider, instruments)
  return instruments
}

/** The instruments of one meter provider. Sums the values of all apps in this process. */
export class Instruments {
  readonly duration: Histogram
  readonly commandDuration: Histogram
  readonly publishDuration: Histogram
  readonly deliveryLag: Histogram
  readonly drainDuration: Histogram
  readonly #meter: Meter
  readonly #observables: Record<ObservableName, Observable>
  readonly #sources = new Set<Source>()
  /** Last values of closed apps: a counter must not decrease. Their open connections and subscriptions are at zero. */
  #closed: readonly Sample[] = []

  constructor (meter: Meter) {
    this.#meter = meter
    const seconds = (name: string, boundaries: number[], description: string) =>
      meter.createHistogram(name, { unit: 's', description, advice: { explicitBucketBoundaries: boundaries } })
    this.duration = seconds(metricNames.duration, CONNECTION_BUCKETS, 'Age of connections that ended')
    this.commandDuration = seconds(metricNames.commandDuration, FAST_BUCKETS, 'Commands of SDK clients, until they are answered')
    this.publishDuration = seconds(metricNames.publishDuration, FAST_BUCKETS, 'Publishing, until stored or handed on')
    this.deliveryLag = seconds(metricNames.deliveryLag, FAST_BUCKETS, 'From publish on one instance to frame on another')
    this.drainDuration = seconds(metricNames.drainDuration, DRAIN_BUCKETS, 'Closing all connections at shutdown')
    this.#observables = createObservables(meter)
  }

  add (source: Source): void {
    if (this.#sources.size === 0) this.#meter.addBatchObservableCallback(this.#observe, Object.values(this.#observables))
    this.#sources.add(source)
  }

  remove (source: Source): void {
    if (!this.#sources.has(source)) return
    const before = this.#openSamples()
    this.#sources.delete(source)
    const last = source.samples().filter(([instrument]) => kept.includes(instrument as Kept) && instrument !== 'downtime')
    // The downtime of those that stay may be part of it, and must not count twice.
    const downtime = downtimeOf(before) - downtimeOf(this.#openSamples())
    this.#closed = total([...this.#closed, ...last, ['downtime', downtime]])
  }

  #openSamples (): readonly Sample[] {
    return total(Array.from(this.#sources, source => source.samples()).flat(), merges)
  }

  /** Reads the last app once more before it is removed. An SDK goes on exporting the value that it read last. */
  #forget (): void {
    if (this.#sources.size === 0) this.#meter.removeBatchObservableCallback(this.#observe, Object.values(this.#observables))
  }

  // Several apps in a process share the series. An SDK would keep the value of the last one only.
  readonly #observe = (result: BatchObservableResult): void => {
    for (const [instrument, value, attributes] of total([...this.#closed, ...this.#openSamples()])) {
      result.observe(this.#observables[instrument], instrument === 'downtime' ? value / 1_000 : value, attributes)
    }
    if (this.#sources.size === 0) queueMicrotask(() => this.#forget()) // later: the SDK is iterating over its callbacks
  }
}

function createObservables (meter: Meter): Record<ObservableName, Observable> {
  const options = (unit: string, description: string) => ({ valueType: ValueType.INT, unit, description })
  const counter = (name: string, unit: string, description: string) => meter.createObservableCounter(name, options(unit, description))
  const gauge = (name: string, unit: string, description: string) => meter.createObservableGauge(name, options(unit, description))
  const upDownCounter = (name: string, unit: string, description: string) =>
    meter.createObservableUpDownCounter(name, options(unit, description))
  return {
    active: upDownCounter(metricNames.active, '{connection}', 'Open connections'),
    opened: counter(metricNames.opened, '{connection}', 'Connections that were accepted'),
    closed: counter(metricNames.closed, '{connection}', 'Connections that ended'),
    rejected: counter(metricNames.rejected, '{connection}', 'Upgrades refused'),
    limit: gauge(metricNames.limit, '{connection}', 'Connections this instance may hold'),
    messages: counter(metricNames.messages, '{message}', 'Messages received and sent'),
    io: counter(metricNames.io, 'By', 'Payload received and sent'),
    subscriptions: upDownCounter(metricNames.subscriptions, '{subscription}', 'Channels of all connections'),
    recoveries: counter(metricNames.recoveries, '{recovery}', 'Subscriptions that named a position'),
    missed: counter(metricNames.missed, '{publication}', 'Publications lost for good'),
    skipped: counter(
      metricNames.skipped, '{publication}', 'Publications that a slow client did not get because a later one took their place'),
    up: gauge(metricNames.up, '1', '0 while publications of other instances cannot arrive'),
    downtime: meter.createObservableCounter(
      metricNames.downtime, { unit: 's', description: 'Time in which publications of other instances could not arrive' })
  }
}

type Merges = { readonly [name in ObservableName]?: (a: number, b: number) => number }

/** How samples of open apps in this process are merged: the instance is as badly off as its worst app. */
const merges: Merges = { up: Math.min, downtime: Math.max }

function downtimeOf (samples: readonly Sample[]): number {
  return samples.find(([instrument]) => instrument === 'downtime')?.[1] ?? 0
}

/** Merges samples of the same instrument and attributes: by their sum, unless `merges` says otherwise. */
function total (samples: readonly Sample[], merges: Merges = {}): readonly Sample[] {
  const totals = new Map<string, Sample>()
  for (const [instrument, value, attributes = {}] of samples) {
    const key = JSON.stringify([instrument, attributes])
    const before = totals.get(key)?.[1]
    const merge = merges[instrument] ?? ((a, b) => a + b)
    totals.set(key, [instrument, before === undefined ? value : merge(before, value), attributes])
  }
  return Array.from(totals.values())
}
