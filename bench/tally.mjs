/** Latencies are counted by 0.1 ms, up to 60 s. */
const PER_MS = 10
const LATENCIES = 60_000 * PER_MS

/** Counts what arrives. */
export class Tally {
  received = 0
  /** Came twice, or after a later one. */
  disordered = 0
  /** Of a channel that the client is not subscribed to. */
  strayed = 0
  #latencies = new Uint32Array(LATENCIES)

  clear () {
    this.received = this.disordered = this.strayed = 0
    this.#latencies.fill(0)
  }

  latency (ms) {
    this.#latencies[Math.min(LATENCIES - 1, ms * PER_MS | 0)]++
  }

  /** Latencies in ms. */
  get figures () {
    const { received, disordered, strayed } = this
    return { received, disordered: disordered + strayed, p50: this.percentile(0.5), p99: this.percentile(0.99), max: this.percentile(1) }
  }

  /** ms under which this share of the latencies lies. */
  percentile (share) {
    const total = this.#latencies.reduce((sum, count) => sum + count, 0)
    let seen = 0
    for (let i = 0; i < LATENCIES; i++) {
      seen += this.#latencies[i]
      if (seen > 0 && seen >= total * share) return (i + 1) / PER_MS
    }
    return Number.NaN
  }
}
