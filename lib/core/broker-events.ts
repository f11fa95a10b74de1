import type { BrokerListener } from '../model/broker.ts'
import { CONTROL_CHANNEL } from '../model/channel-rules.ts'
import type { Control } from './control.ts'
import type { Hub } from '../hub/hub.ts'
import type { Instance } from './connections.ts'
import type { Logs } from '../observability/logs.ts'
import type { Metrics } from '../observability/metrics.ts'
import type { Publication } from '../model/publication.ts'
import type { Tracing } from '../observability/tracing.ts'

/** Where everything arrives that the broker brings. */
export class Bridge implements BrokerListener {
  readonly #instance: Instance
  readonly #hub: Hub
  readonly #control: Control
  readonly #metrics: Metrics
  readonly #logs: Logs
  readonly #tracing: Tracing
  #downSince = 0

  constructor (instance: Instance, hub: Hub, control: Control, metrics: Metrics, logs: Logs, tracing: Tracing) {
    this.#instance = instance
    this.#hub = hub
    this.#control = control
    this.#metrics = metrics
    this.#logs = logs
    this.#tracing = tracing
  }

  deliver (channel: string, publication: Publication): void {
    // Commands between instances are no publications of the host's.
    if (channel === CONTROL_CHANNEL) return this.#control.receive(publication)
    const span = this.#tracing.process(channel, publication)
    this.#hub.deliver(channel, publication)
    if (publication.instance !== this.#instance.id) this.#metrics.delivered(Date.now() - publication.time)
    this.#tracing.processed(span)
  }

  keepsUp (channel: string): boolean {
    return this.#hub.keepsUp(channel)
  }

  missed (channel: string, count: number, reason: string): void {
    if (channel !== CONTROL_CHANNEL) this.#metrics.missed(count)
    this.#logs.missed(channel, count, reason)
  }

  renewed (channel: string): void {
    this.#hub.renewed(channel)
  }

  stateChanged (up: boolean, reason: string): void {
    if (!up) {
      this.#downSince = Date.now()
      return this.#logs.bridgeDown(reason)
    }
    this.#logs.bridgeUp(this.#downSince === 0 ? 0 : Date.now() - this.#downSince)
    // When Redis goes away again meanwhile, its next return does it.
    this.#control.listen().catch(() => {})
    this.#instance.refreshPresence().catch(() => {}) // it may have come back empty
  }
}
