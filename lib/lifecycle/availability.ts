import type { Broker } from '../model/broker.ts'
import type { Control } from '../core/control.ts'
import type { Drain } from './drain.ts'
import type { Connections } from '../core/connections.ts'
import type { MemoryGuard } from './memory-guard.ts'

/** Reasons for which `/ready` answers 503, in the order of its list. */
const REASONS = ['starting', 'draining', 'full', 'memory', 'redis'] as const
/** Reasons to reject an upgrade, by precedence. Redis being down is none: connections work without it for a while. */
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
  readonly #kind: 'memory' | 'redis'
  readonly #redisReadiness: 'start' | 'always'
  /** Places held by upgrades that wait for `authenticate`. */
  authenticating = 0
  /** Places held by sockets of refused clients, until they are closed. */
  closing = 0
  #started = false

  constructor (
    connections: Connections, drain: Drain, memory: MemoryGuard, broker: Broker, control: Control, kind: 'memory' | 'redis',
    redisReadiness: 'start' | 'always'
  ) {
    this.#connections = connections
    this.#drain = drain
    this.#memory = memory
    this.#broker = broker
    this.#control = control
    this.#kind = kind
    this.#redisReadiness = redisReadiness
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

  /** Whether messages of other instances arrive; undefined without Redis. */
  get redis (): 'up' | 'down' | undefined {
    if (this.#kind === 'memory') return undefined
    return this.#broker.up ? 'up' : 'down'
  }

  get #taken (): number { return this.#connections.size + this.authenticating + this.closing }

  get #maxConnections (): number { return this.#connections.options.maxConnections }

  #applies (reason: Reason): boolean {
    switch (reason) {
      case 'starting': return !this.#started
      case 'draining': return this.#drain.started
      case 'full': return this.#taken >= this.#maxConnections
      case 'memory': return this.#memory.short
      // An instance listens for commands from the first time that Redis is up.
      case 'redis': return !this.#control.listens || (this.#redisReadiness === 'always' && !this.#broker.up)
    }
  }
}
