import type { Connection } from './connection.ts'
import type { Logs } from './logs.ts'

/** Share of the limit from which on no more connections are taken, and the one below which they are again. */
const SHORT = 0.9
const ENOUGH = 0.85
/** Share of the limit that all clients may owe together. */
const OWED = 0.25

/** Keeps the process within the memory of its container: one that needs more is killed, with all its connections. Looked at by the heartbeat, so that it costs nothing per message. */
export class Memory {
  readonly #limit: number | false
  readonly #logs: Logs
  #short = false

  constructor (limit: number | false, logs: Logs) {
    this.#limit = limit
    this.#logs = logs
  }

  /** Whether a new connection might be one too many. */
  get short (): boolean { return this.#short }

  check (connections: Iterable<Connection>): void {
    if (this.#limit === false) return
    this.#cutSlowest(Array.from(connections), this.#limit * OWED)
    const used = process.memoryUsage.rss()
    const short = used > this.#limit * (this.#short ? ENOUGH : SHORT)
    if (short === this.#short) return
    this.#short = short
    if (short) this.#logs.memoryShort(used, this.#limit)
    else this.#logs.memoryFreed(used, this.#limit)
  }

  /** Each of them may owe less than one is allowed to, and all together too much. */
  #cutSlowest (connections: Connection[], allowed: number): void {
    let owed = connections.reduce((sum, connection) => sum + connection.owed, 0)
    if (owed <= allowed) return
    for (const connection of connections.toSorted((a, b) => b.owed - a.owed)) {
      if (owed <= allowed) break
      owed -= connection.owed
      this.#logs.slow(connection, connection.owed)
      connection.cut('slow')
    }
  }
}
