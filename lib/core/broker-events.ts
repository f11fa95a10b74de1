import type { BrokerListener } from '../model/broker.ts'
import { CONTROL_CHANNEL } from '../model/channel-rules.ts'
import type { Control } from './control.ts'
import type { Hub } from '../hub/hub.ts'
import type { Instance } from './connections.ts'
import type { Observer } from '../observability/observer.ts'
import type { Publication } from '../model/publication.ts'

/** Where everything arrives that the broker brings. */
export class Bridge implements BrokerListener {
  readonly #instance: Instance
  readonly #hub: Hub
  readonly #control: Control
  readonly #observer: Observer

  constructor (instance: Instance, hub: Hub, control: Control, observer: Observer) {
    this.#instance = instance
    this.#hub = hub
    this.#control = control
    this.#observer = observer
  }

  deliver (channel: string, publication: Publication): void {
    // Commands between instances are no publications of the host's.
    if (channel === CONTROL_CHANNEL) return this.#control.receive(publication)
    this.#hub.deliver(channel, publication)
    if (this.#observer.recording) this.#observer.delivered(channel, publication)
  }

  keepsUp (channel: string): boolean {
    return this.#hub.keepsUp(channel)
  }

  missed (channel: string, count: number, reason: string): void {
    if (channel === CONTROL_CHANNEL) this.#observer.commandsMissed(channel, count, reason)
    else this.#observer.missed(channel, count, reason)
  }

  renewed (channel: string): void {
    this.#hub.renewed(channel)
  }

  stateChanged (up: boolean, reason: string): void {
    if (!up) return this.#observer.brokerDown(reason)
    this.#observer.brokerUp()
    // When Redis goes away again meanwhile, its next return does it.
    this.#control.listen().catch(() => {})
    this.#instance.refreshPresence().catch(() => {}) // it may have come back empty
  }
}
