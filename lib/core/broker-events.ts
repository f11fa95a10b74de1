import type { BrokerListener } from '../model/broker.ts'
import type { Logs } from '../observability/logs.ts'
import type { Connections } from './connections.ts'
import type { Control } from './control.ts'
import type { Subscriptions } from './subscriptions.ts'

/** Reacts when the link between the instances goes down or comes back. */
export class BrokerEvents implements BrokerListener {
  readonly #connections: Connections
  readonly #subscriptions: Subscriptions
  readonly #control: Control
  readonly #logs: Logs
  #downSince = 0

  constructor (connections: Connections, subscriptions: Subscriptions, control: Control, logs: Logs) {
    this.#connections = connections
    this.#subscriptions = subscriptions
    this.#control = control
    this.#logs = logs
  }

  stateChanged (up: boolean, reason: string): void {
    if (!up) {
      this.#downSince = Date.now()
      return this.#logs.bridgeDown(reason)
    }
    this.#logs.bridgeUp(this.#downSince === 0 ? 0 : Date.now() - this.#downSince)
    // If Redis goes down again meanwhile, its next return does both.
    this.#control.listen().catch(() => {})
    this.#subscriptions.refreshPresence(this.#connections).catch(() => {}) // Redis may have come back empty
  }
}
