import type { End } from '../model/close-codes.ts'
import type { Connection } from '../core/connection.ts'
import type { Instruments, Sample } from './instruments.ts'

/** Why an upgrade was refused, as in the attribute `error.type`. */
export type Rejection = 'capacity' | 'origin' | 'auth' | 'rate_limit' | 'draining'

/** What the gauges read. */
export interface Observed {
  readonly connections: Iterable<Connection>
  readonly hub: { readonly subscriptions: number, readonly skipped: number }
  readonly broker: { readonly up: boolean }
  readonly limit: number
}

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
 * What the instance tells OpenTelemetry. What happens is counted in plain fields, messages in those of their connection, and read
 * when metrics are collected: it costs the same with and without an SDK, and counters lose nothing of what was before the SDK was
 * there. Histograms do: durations of before `bind` are not kept, which with an SDK of ours are those of the first seconds.
 */
export class Metrics {
  #instruments: Instruments | undefined
  #closed = false
  #observed: Observed | undefined
  #missed = 0
  readonly #rejected = new Map<Rejection, number>()
  readonly #recoveries = new Map<'recovered' | 'unrecovered', number>()
  /** Of connections that have ended. */
  readonly #ended = { plain: new Traffic(), json: new Traffic(), protobuf: new Traffic() }

  /** Takes the instruments of the meter provider that is registered by now; nothing while there is none. Imports the API. */
  async bind (): Promise<void> {
    const { registeredInstruments } = await import('./instruments.ts')
    if (this.#closed || this.#instruments !== undefined) return
    this.#instruments = registeredInstruments()
    if (this.#observed !== undefined) this.#instruments?.add(this)
  }

  /** From now on the gauges show this. */
  observe (observed: Observed): void {
    this.#observed = observed
    this.#instruments?.add(this)
  }

  /** An SDK repeats what it has read last, so it reads once more how it ended. */
  close (): void {
    this.#closed = true
    this.#instruments?.remove(this)
  }

  rejected (type: Rejection): void {
    this.#rejected.set(type, (this.#rejected.get(type) ?? 0) + 1)
  }

  connectionEnded (connection: Connection, { cause }: End): void {
    this.#ended[connection.protocol].add(connection)
    this.#instruments?.duration.record((Date.now() - connection.connectedAt) / 1_000, { 'websocket.protocol': connection.protocol, 'websocket.close.cause': cause })
  }

  /** ms; `errorType` is the code of the error reply, or 'disconnect'. */
  commandDone (command: string, duration: number, errorType: string | undefined): void {
    this.#instruments?.commandDuration.record(duration / 1_000, { 'websocket.command': command, ...(errorType !== undefined && { 'error.type': errorType }) })
  }

  recovery (recovered: boolean): void {
    const outcome = recovered ? 'recovered' : 'unrecovered'
    this.#recoveries.set(outcome, (this.#recoveries.get(outcome) ?? 0) + 1)
  }

  missed (count: number): void {
    this.#missed += count
  }

  /** ms */
  published (duration: number, errorType: string | undefined): void {
    this.#instruments?.publishDuration.record(duration / 1_000, errorType === undefined ? {} : { 'error.type': errorType })
  }

  /** ms; the clocks of two instances may differ, but nothing arrives before it was sent. */
  delivered (lag: number): void {
    this.#instruments?.deliveryLag.record(Math.max(0, lag) / 1_000)
  }

  /** ms */
  drained (duration: number): void {
    this.#instruments?.drainDuration.record(duration / 1_000)
  }

  /** @internal Counters since the start, and gauges as they are now. */
  samples (): readonly Sample[] {
    const samples: Sample[] = [['missed', this.#missed]]
    for (const [type, count] of this.#rejected) samples.push(['rejected', count, { 'error.type': type }])
    for (const [outcome, count] of this.#recoveries) samples.push(['recoveries', count, { 'websocket.recovery.outcome': outcome }])
    const connections = Array.from(this.#observed?.connections ?? [])
    const all = new Traffic()
    for (const protocol of PROTOCOLS) {
      const living = connections.filter(connection => connection.protocol === protocol)
      const traffic = Object.assign(new Traffic(), this.#ended[protocol])
      for (const connection of living) traffic.add(connection)
      all.bytesIn += traffic.bytesIn
      all.bytesOut += traffic.bytesOut
      const attributes = { 'websocket.protocol': protocol }
      samples.push(
        ['active', living.length, attributes],
        ['messages', traffic.messagesIn, { ...attributes, 'network.io.direction': 'receive' }],
        ['messages', traffic.messagesOut, { ...attributes, 'network.io.direction': 'transmit' }])
    }
    samples.push(['io', all.bytesIn, { 'network.io.direction': 'receive' }], ['io', all.bytesOut, { 'network.io.direction': 'transmit' }])
    if (this.#observed === undefined) return samples
    const { limit, hub, broker } = this.#observed
    return [...samples, ['limit', limit], ['subscriptions', hub.subscriptions], ['skipped', hub.skipped], ['up', broker.up ? 1 : 0]]
  }
}
