import type { CloseName } from '../model/close-codes.ts'
import type { ObservedConnection, Observer } from '../observability/observer.ts'

/** Shares of the limit: no more connections are accepted above the first one, and again below the second one. */
const SHORT = 0.9
const ENOUGH = 0.85
/**
 * The allocator may keep freed memory resident. So connections are accepted above ENOUGH too, once FREED of them have
 * left, or of the limit in live bytes. They are refused again when their number is back, or when resident memory has
 * grown by MORE of the limit.
 */
const FREED = 0.1
const MORE = 0.02
/** Shares of the limit: bytes that all clients together may have buffered, while more than TIGHT is in use. */
const BUFFERED = 0.25
const TIGHT = 0.75

/** The part of a connection that the guard uses. */
export interface BufferingConnection extends ObservedConnection {
  readonly outbox: { readonly bufferedBytes: number }
  terminate (how: CloseName): void
}

interface Use {
  /** Resident bytes. */
  readonly resident: number
  /** Bytes of the heap and of buffers. */
  readonly live: number
  readonly connections: number
}

/**
 * Keeps the process within the memory of its container, which else would be killed with all its connections. The
 * heartbeat calls it, so it costs nothing per message.
 */
export class MemoryGuard {
  readonly #limit: number | false
  readonly #observer: Pick<Observer, 'memoryShort' | 'memoryFreed' | 'slow'>
  /**
   * Use when memory became short last. `resident` is that of the first time: otherwise it could creep up to the limit.
   * undefined once resident memory is below ENOUGH.
   */
  #shortAt: Use | undefined
  #short = false

  /** `limit`: bytes. */
  constructor (limit: number | false, observer: Pick<Observer, 'memoryShort' | 'memoryFreed' | 'slow'>) {
    this.#limit = limit
    this.#observer = observer
  }

  /** Whether a new connection might be one too many. */
  get short (): boolean { return this.#short }

  check (connections: Iterable<BufferingConnection> & { readonly size: number }): void {
    if (this.#limit === false) return
    const { rss, heapUsed, external } = process.memoryUsage()
    if (rss > this.#limit * TIGHT) this.#terminateSlowest(Array.from(connections), this.#limit * BUFFERED)
    const short = this.#isShort({ resident: rss, live: heapUsed + external, connections: connections.size }, this.#limit)
    if (short === this.#short) return
    this.#short = short
    if (short) this.#observer.memoryShort(rss, this.#limit)
    else this.#observer.memoryFreed(rss, this.#limit)
  }

  #isShort (use: Use, limit: number): boolean {
    const before = this.#shortAt
    if (use.resident <= limit * (before === undefined ? SHORT : ENOUGH)) {
      this.#shortAt = undefined
      return false
    }
    if (before !== undefined && (this.#short || use.resident <= before.resident + limit * MORE)) {
      const freed = use.live <= before.live - limit * FREED
      const left = before.connections - use.connections
      const enough = this.#short ? Math.max(1, before.connections * FREED) : 1
      if (freed || left >= enough) return false
    }
    if (!this.#short) this.#shortAt = { ...use, resident: before?.resident ?? use.resident }
    return true
  }

  /**
   * Terminates the slowest clients. Each may stay within its own limit while all together have too much buffered. A
   * payload that was sent to several clients counts for each of them.
   */
  #terminateSlowest (connections: BufferingConnection[], allowed: number): void {
    let total = connections.reduce((sum, { outbox }) => sum + outbox.bufferedBytes, 0)
    if (total <= allowed) return
    for (const connection of connections.toSorted((a, b) => b.outbox.bufferedBytes - a.outbox.bufferedBytes)) {
      if (total <= allowed) break
      const { bufferedBytes } = connection.outbox
      total -= bufferedBytes
      this.#observer.slow(connection, bufferedBytes)
      connection.terminate('slow')
    }
  }
}
