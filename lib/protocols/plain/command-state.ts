import type { Connection } from '../../core/connection.ts'
import type { SubscribingSession } from '../../core/client-subscribe.ts'
import type { Subscription } from '../../hub/subscription.ts'

/** Commands of one connection that may overlap. The next one waits, and so does all that the client sends after it. */
const MAX_OVERLAPPING = 8

/** What is under way for one connection that uses commands. */
export class CommandState implements SubscribingSession {
  readonly connection: Connection
  left: Set<string> | undefined
  /** Unix time in milliseconds at which the first subscription ends, or earlier. */
  nextExpiry = Infinity
  /** Subscribes, unsubscribes and concurrent calls of methods. */
  #overlapping = 0
  /** Those of them whose effect the messages behind them must find. */
  #ordering = 0
  /** Goes on with the message that waits. */
  #waiting: { ready: () => boolean, goOn: () => void } | undefined

  constructor (connection: Connection) {
    this.connection = connection
  }

  /** Resolves when earlier subscribes and unsubscribes have taken effect; undefined if they have. */
  settled (): Promise<void> | undefined {
    return this.#until(() => this.#ordering === 0)
  }

  /** Resolves when one more command may overlap; undefined if it may at once. */
  room (): Promise<void> | undefined {
    return this.#until(() => this.#overlapping < MAX_OVERLAPPING)
  }

  /** Counts a command until its promise, which never rejects, has settled. */
  overlap (done: Promise<void>, ordering: boolean): void {
    this.#overlapping++
    if (ordering) this.#ordering++
    done.then(() => {
      this.#overlapping--
      if (ordering) this.#ordering--
      if (this.#waiting?.ready() === true) this.closed()
    })
  }

  /** Ends this subscription at a Unix time in seconds; undefined: never. */
  expireAt (subscription: Subscription, until: number | undefined): void {
    if (until === undefined) return
    subscription.expiresAt = until * 1_000
    this.nextExpiry = Math.min(this.nextExpiry, subscription.expiresAt)
  }

  /** The subscriptions that have expired. */
  expired (now: number): Subscription[] {
    const all = Array.from(this.connection.subscriptions.values())
    this.nextExpiry = Math.min(...all.map(({ expiresAt }) => expiresAt > now ? expiresAt : Infinity))
    return all.filter(({ expiresAt }) => expiresAt <= now)
  }

  /** Wakes what waits: nobody needs the answer any more. */
  closed (): void {
    this.#waiting?.goOn()
    this.#waiting = undefined
  }

  /** Only one message waits at a time: the next one is handled after it. */
  #until (ready: () => boolean): Promise<void> | undefined {
    if (ready()) return undefined
    return new Promise(resolve => { this.#waiting = { ready, goOn: resolve } })
  }
}
