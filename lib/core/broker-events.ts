import type { BrokerListener } from '../model/broker.ts'
import type { Observer } from '../observability/observer.ts'
import type { Connections } from './connections.ts'
import type { Control } from './control.ts'
import type { Occupancies } from './occupancy.ts'
import type { Subscriptions } from './subscriptions.ts'

/** Reacts when the broker goes down or is up again. */
export class BrokerEvents implements BrokerListener {
  readonly #connections: Connections
  readonly #subscriptions: Subscriptions
  readonly #control: Control
  readonly #occupancies: Occupancies
  readonly #observer: Observer

  constructor (
    connections: Connections, subscriptions: Subscriptions, control: Control, occupancies: Occupancies, observer: Observer
  ) {
    this.#connections = connections
    this.#subscriptions = subscriptions
    this.#control = control
    this.#occupancies = occupancies
    this.#observer = observer
  }

  missed (channel: string, count: number, reason: string): void {
    this.#observer.missed(channel, count, reason)
  }

  stillDown (reason: string): void {
    this.#observer.brokerStillDown(reason)
  }

  stateChanged (up: boolean, reason: string): void {
    if (!up) return this.#observer.brokerDown(reason)
    this.#observer.brokerUp()
    this.#occupancies.recheck()
    // If Redis goes down again meanwhile, its next return does both.
    this.#control.listen().catch(() => {})
    this.#subscriptions.refreshPresence(this.#connections).catch(() => {}) // Redis may have come back empty
  }
}
