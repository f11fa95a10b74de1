import type { Broker } from '../model/broker.ts'
import type { Control } from '../core/control.ts'
import type { Drain } from './drain.ts'
import type { Connections } from '../core/connections.ts'
import type { MemoryGuard } from './memory-guard.ts'

/** Reasons for which `/ready` answers 503, in the order of its list. */
const REASONS = ['starting', 'draining', 'full', 'memory', 'redis'] as const
/**
 * Reasons to reject an upgrade, by precedence. Redis being down is none: connections work without it for a while, and
 * `/ready` sends new ones elsewhere.
 */
const REFUSALS = ['draining', 'full', 'memory'] as const
/** Share of the places that the sockets of refused clients may hold. */
const CLOSING_SHARE = 0.1

type Reason = typeof REASONS[number]
type Refusal = typeof REFUSALS[number]

/** Whether this instance takes new connections, and if not, why. */
export class Availability {
  readonly #connections: Connections
  readonly #drain: Drain
  readonly #memory: MemoryGuard
  readonly #broker: Broker
  readonly #control: Control
  /** Places held by upgrades that wait for `authenticate`. */
  authenticating = 0
  /** Places held by sockets of refused clients, until they are closed. */
  closing = 0
  #started = false

  constructor (connections: Connections, drain: Drain, memory: MemoryGuard, broker: Broker, control: Control) {
    this.#connections = connections
    this.#drain = drain
    this.#memory = memory
    this.#broker = broker
    this.#control = control
  }

  /** The app is ready: its `onReady` hooks have begun. */
  start (): void {
    this.#started = true
  }

  /** Why `/ready` answers 503; empty if it answers 200. */
  get reasons (): readonly Reason[] {
    return REASONS.filter(reason => this.#applies(reason))
  }

  /** Why an upgrade is rejected; undefined if it is accepted. */
  get refusal (): Refusal | undefined {
    return REFUSALS.find(reason => this.#applies(reason))
  }

  /**
   * Whether one more refused client may have its socket closed with a code. Those who hold no login must not fill the
   * instance by not answering.
   */
  get mayClose (): boolean { return this.closing < this.#maxConnections * CLOSING_SHARE }

  get #taken (): number { return this.#connections.size + this.authenticating + this.closing }

  get #maxConnections (): number { return this.#connections.options.maxConnections }

  #applies (reason: Reason): boolean {
    switch (reason) {
      case 'starting': return !this.#started
      case 'draining': return this.#drain.started
      case 'full': return this.#taken >= this.#maxConnections
      case 'memory': return this.#memory.short
      case 'redis': return !this.#broker.up || !this.#control.listens
    }
  }
}
