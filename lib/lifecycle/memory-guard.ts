import type { Connection } from '../core/connection.ts'
import type { Observer } from '../observability/observer.ts'

/** Share of the limit from which on no more connections are taken, and the one below which they are again. */
const SHORT = 0.9
const ENOUGH = 0.85
/** Shares of the limit: what all clients may owe together, where so much is in use that it matters. */
const OWED = 0.25
const TIGHT = 0.75
/** Share of the connections, or of the limit in the heap and in buffers, that has to be free again where resident memory does not fall. */
const FREED = 0.1
/** Share of the limit by which resident memory may be above what it was when it was short first. */
const MORE = 0.02

interface Use {
  /** Bytes that are resident. What was freed may stay so: the allocator keeps it for what comes. */
  readonly resident: number
  /** Bytes of the heap and of buffers. */
  readonly live: number
  readonly connections: number
}

/**
 * Keeps the process within the memory of its container: one that needs more is killed, with all its connections. Looked at by the
 * heartbeat, so that it costs nothing per message.
 */
export class Memory {
  readonly #limit: number | false
  readonly #observer: Observer
  #short = false
  /** What was in use when it was short last; undefined as soon as resident memory has fallen. */
  #full: Use | undefined

  constructor (limit: number | false, observer: Observer) {
    this.#limit = limit
    this.#observer = observer
  }

  /** Whether a new connection might be one too many. */
  get short (): boolean { return this.#short }

  check (connections: ReadonlyMap<string, Connection>): void {
    if (this.#limit === false) return
    const { rss, heapUsed, external } = process.memoryUsage()
    if (rss > this.#limit * TIGHT) this.#cutSlowest(Array.from(connections.values()), this.#limit * OWED)
    const short = this.#isShort({ resident: rss, live: heapUsed + external, connections: connections.size }, this.#limit)
    if (short === this.#short) return
    this.#short = short
    if (short) this.#observer.memoryShort(rss, this.#limit)
    else this.#observer.memoryFreed(rss, this.#limit)
  }

  #isShort (use: Use, limit: number): boolean {
    const { resident, live, connections } = use
    if (resident <= limit * (this.#full === undefined ? SHORT : ENOUGH)) {
      this.#full = undefined
      return false
    }
    const full = this.#full ??= use
    const asMuch = live > full.live - limit * FREED
    if (this.#short) return asMuch && (full.connections === 0 || connections > full.connections * (1 - FREED))
    const short = (asMuch && connections >= full.connections) || resident > full.resident + limit * MORE
    if (short) this.#full = { ...use, resident: full.resident } // or it might creep up to the limit
    return short
  }

  /** Each of them may owe less than one is allowed to, and all together too much. What several were sent counts for each of them. */
  #cutSlowest (connections: Connection[], allowed: number): void {
    let owed = connections.reduce((sum, connection) => sum + connection.owed, 0)
    if (owed <= allowed) return
    for (const connection of connections.toSorted((a, b) => b.owed - a.owed)) {
      if (owed <= allowed) break
      owed -= connection.owed
      this.#observer.slow(connection, connection.owed)
      connection.cut('slow')
    }
  }
}
