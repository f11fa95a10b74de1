/** Requests that an instance takes at a time where nobody has set it: gcloud's default is 80 per vCPU (docs.cloud.google.com/run/docs/about-concurrency). */
const DEFAULT_CONCURRENCIES: ReadonlySet<number> = new Set([80, 160, 320, 480, 640])
/** ms that the number of connections must stand at such a limit. */
const SPAN = 300_000
/** Connections that must have ended meanwhile: a number that nothing moves says nothing. */
const MIN_ENDED = 20
/** Share of the sweeps at which all places must be taken, and how many sweeps it takes to say so. */
const TAKEN_SHARE = 0.9
const MIN_SWEEPS = 20

/**
 * Whom Cloud Run's front end turns away this process never sees. What it does see is that the number of connections never passes
 * the default concurrency, and that whenever one ends another one takes its place at once.
 */
export class Plateau {
  #level = 0
  #since = 0
  #sweeps = 0
  #taken = 0
  #ended = 0

  ended (): void {
    this.#ended++
  }

  /** At every sweep. Gives the limit at which the number of connections has stood, undefined if it has not. */
  swept (connections: number, now: number): number | undefined {
    if (connections > this.#level || (this.#sweeps >= MIN_SWEEPS && this.#taken < this.#sweeps * TAKEN_SHARE)) this.#restart(connections, now)
    if (this.#level === 0) return undefined
    this.#sweeps++
    if (connections === this.#level) this.#taken++
    return now - this.#since >= SPAN && this.#sweeps >= MIN_SWEEPS && this.#ended >= MIN_ENDED ? this.#level : undefined
  }

  #restart (connections: number, now: number): void {
    this.#level = DEFAULT_CONCURRENCIES.has(connections) ? connections : 0
    this.#since = now
    this.#sweeps = this.#taken = this.#ended = 0
  }
}
