import type { CloseCause, End } from '../model/close-codes.ts'
import type { Instruments, Sample } from './instruments.ts'

/**
 * Why an upgrade was rejected, as in the attribute `error.type`. 'auth': `authenticate` has refused it; 'auth_failed':
 * `authenticate` has failed itself, or taken too long. Posts over a stream are no connections, so they have their own.
 */
export type Rejection = 'capacity' | 'origin' | 'auth' | 'auth_failed' | 'rate_limit' | 'draining' | PostRejection
/** Answered with 404, 429 and 503. */
type PostRejection = 'post_unknown' | 'post_limit' | 'post_unanswered'

/** The fields of a connection that are measured. */
export interface MeasuredConnection {
  readonly protocol: 'plain' | 'json' | 'protobuf'
  readonly transport: 'websocket' | 'http_stream' | 'sse' | 'uni_sse'
  /** Unix time in ms. */
  readonly connectedAt: number
  /** Messages, and bytes of their payloads. */
  readonly received: number
  readonly sent: number
  readonly bytesReceived: number
  readonly bytesSent: number
}

/** State of the instance that is read when metrics are collected. */
interface Measured {
  readonly connections: Iterable<MeasuredConnection>
  readonly hub: { readonly subscriptions: number, readonly skipped: number }
  readonly broker: { readonly up: boolean }
  /** Connections that the instance may hold. */
  readonly limit: number
  /** Whether there may be other connections than WebSockets. */
  readonly fallback: boolean
}

/** Values of `websocket.protocol`: those of WebSockets, and those of what stands in for one. */
const WEBSOCKETS = ['plain', 'json', 'protobuf'] as const
const STREAMS = ['http_stream_json', 'http_stream_protobuf', 'sse_json', 'uni_sse'] as const

/** Whether it is a post that was rejected, and no connection. */
export function isOfPost (type: Rejection): type is PostRejection {
  return type.startsWith('post_')
}

function protocolOf ({ protocol, transport }: MeasuredConnection): string {
  if (transport === 'websocket') return protocol
  return transport === 'uni_sse' ? transport : `${transport}_${protocol}`
}

class Traffic {
  connections = 0
  messagesIn = 0
  messagesOut = 0
  bytesIn = 0
  bytesOut = 0

  add ({ received, sent, bytesReceived, bytesSent }: MeasuredConnection): void {
    this.connections++
    this.messagesIn += received
    this.messagesOut += sent
    this.bytesIn += bytesReceived
    this.bytesOut += bytesSent
  }
}

/**
 * Counts in plain fields, and passes the sums to OpenTelemetry on collection. Messages are counted in fields of their
 * connection. Counting costs the same with and without an SDK, and counters include what happened before `bind`.
 * Histograms do not: they lack the durations from before `bind`, the first seconds with an SDK of ours.
 *
 * Counters have all their attributes from the start, at 0: of a series with a single value nobody can tell what it
 * counted, and the closes of a drain come with the last export.
 */
export class Metrics {
  #instruments: Instruments | undefined
  #closed = false
  #measured: Measured | undefined
  #missed = 0
  readonly #causes: Record<CloseCause, number> = {
    client: 0, server: 0, deadline: 0, drain: 0, heartbeat: 0, slow: 0, policy: 0, error: 0, abnormal: 0
  }

  readonly #rejected = { capacity: 0, origin: 0, auth: 0, auth_failed: 0, rate_limit: 0, draining: 0 }
  readonly #rejectedPosts: Record<PostRejection, number> = { post_unknown: 0, post_limit: 0, post_unanswered: 0 }
  readonly #recoveries = { recovered: 0, unrecovered: 0 }
  /** ms for which the broker was down before it was up again, and the time in ms since which it is down now. */
  #downBefore = 0
  #downSince: number | undefined
  /** Time in ms of the start, until the broker is up for the first time. */
  #startedAt: number | undefined = performance.now()
  /** Traffic of connections that have ended. */
  readonly #ended = new Map([...WEBSOCKETS, ...STREAMS].map((protocol): [string, Traffic] => [protocol, new Traffic()]))

  /** Whether a meter provider was found. Before that, recording a duration has no effect. */
  get bound (): boolean { return this.#instruments !== undefined }

  /** Binds to the registered meter provider. Without one it only imports the API, and may be called again. */
  async bind (): Promise<void> {
    const { registeredInstruments } = await import('./instruments.ts')
    if (this.#closed || this.#instruments !== undefined) return
    this.#instruments = registeredInstruments()
    if (this.#measured !== undefined) this.#instruments?.add(this)
  }

  /** Begins to export the state of this instance. */
  observe (measured: Measured): void {
    this.#measured = measured
    this.#instruments?.add(this)
  }

  /** Reads the last state. An SDK goes on exporting the value that it read last. */
  close (): void {
    this.#closed = true
    this.#instruments?.remove(this)
  }

  rejected (type: Rejection): void {
    if (isOfPost(type)) this.#rejectedPosts[type]++
    else this.#rejected[type]++
  }

  connectionEnded (connection: MeasuredConnection, { cause }: End): void {
    const protocol = protocolOf(connection)
    this.#ended.get(protocol)!.add(connection)
    this.#causes[cause]++
    const attributes = { 'websocket.protocol': protocol, 'websocket.close.cause': cause }
    this.#instruments?.duration.record((Date.now() - connection.connectedAt) / 1_000, attributes)
  }

  /** `duration`: ms. `errorType`: the code of the error reply, or 'disconnect'. */
  commandDone (command: string, duration: number, errorType: string | undefined): void {
    const attributes = { 'websocket.command': command, ...(errorType !== undefined && { 'error.type': errorType }) }
    this.#instruments?.commandDuration.record(duration / 1_000, attributes)
  }

  recovery (recovered: boolean): void {
    this.#recoveries[recovered ? 'recovered' : 'unrecovered']++
  }

  /**
   * `now`: `performance.now()`. Told again while the broker is down, it goes on counting. A broker that was never up is
   * told only after a while, and was down before.
   */
  brokerDown (now: number): void {
    this.#downSince ??= this.#startedAt ?? now
  }

  brokerUp (now: number): void {
    this.#downBefore = this.#downtime(now)
    this.#downSince = this.#startedAt = undefined
  }

  missed (count: number): void {
    this.#missed += count
  }

  /** `duration`: ms. */
  published (duration: number, errorType: string | undefined): void {
    this.#instruments?.publishDuration.record(duration / 1_000, errorType === undefined ? {} : { 'error.type': errorType })
  }

  /**
   * `lag`: ms. Below 0 it is recorded as 0: clocks of two instances differ. If those were left out, only the slow ones
   * would remain of an instance whose clock is behind.
   */
  delivered (lag: number): void {
    this.#instruments?.deliveryLag.record(Math.max(0, lag) / 1_000)
  }

  /** `duration`: ms. */
  drained (duration: number): void {
    this.#instruments?.drainDuration.record(duration / 1_000)
  }

  /** @internal Counters since the start, and gauges as they are now. */
  samples (): readonly Sample[] {
    const samples: Sample[] = [
      ['missed', this.#missed],
      ['downtime', Math.floor(this.#downtime(performance.now()))],
      ...byAttribute('closed', 'websocket.close.cause', this.#causes),
      ...byAttribute('rejected', 'error.type', this.#rejected),
      ...this.#measured?.fallback === true ? byAttribute('rejected', 'error.type', this.#rejectedPosts) : [],
      ...byAttribute('recoveries', 'websocket.recovery.outcome', this.#recoveries),
      ...this.#traffic()
    ]
    if (this.#measured === undefined) return samples
    const { limit, hub, broker } = this.#measured
    return [...samples, ['limit', limit], ['subscriptions', hub.subscriptions], ['skipped', hub.skipped], ['up', broker.up ? 1 : 0]]
  }

  #downtime (now: number): number {
    return this.#downBefore + (this.#downSince === undefined ? 0 : now - this.#downSince)
  }

  /**
   * Connections, messages and bytes, per protocol. Those that were opened are those that are open or have ended, so
   * that the three always agree.
   */
  #traffic (): readonly Sample[] {
    const samples: Sample[] = []
    const connections = Array.from(this.#measured?.connections ?? [])
    let bytesIn = 0
    let bytesOut = 0
    for (const protocol of this.#measured?.fallback === true ? [...WEBSOCKETS, ...STREAMS] : WEBSOCKETS) {
      const open = connections.filter(connection => protocolOf(connection) === protocol)
      const traffic = Object.assign(new Traffic(), this.#ended.get(protocol))
      for (const connection of open) traffic.add(connection)
      bytesIn += traffic.bytesIn
      bytesOut += traffic.bytesOut
      const attributes = { 'websocket.protocol': protocol }
      samples.push(
        ['active', open.length, attributes],
        ['opened', traffic.connections, attributes],
        ['messages', traffic.messagesIn, { ...attributes, 'network.io.direction': 'receive' }],
        ['messages', traffic.messagesOut, { ...attributes, 'network.io.direction': 'transmit' }])
    }
    return [...samples, ['io', bytesIn, { 'network.io.direction': 'receive' }], ['io', bytesOut, { 'network.io.direction': 'transmit' }]]
  }
}

function byAttribute (instrument: Sample[0], attribute: string, counts: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(counts).map(([value, count]) => [instrument, count, { [attribute]: value }])
}
