import type { History } from '../model/broker.ts'

/** The read that starts when the present one is over. */
interface NextRead {
  /** Lowest offset that was asked for; the read starts after it. */
  from: number
  readonly history: Promise<History>
}

/**
 * Reads one channel's history, one read at a time. Requests made during a read share the next one. When an instance
 * ends, all its clients reconnect at once with different positions: a read for each would keep Redis busy.
 */
export class HistoryReads {
  readonly #read: (from: number) => Promise<History>
  #reading: Promise<unknown> | undefined
  #next: NextRead | undefined

  /**
   * @param read Reads the publications after an offset; Infinity: the position alone. It takes no epoch, because
   * requests with different epochs share a read: each caller compares epochs itself.
   */
  constructor (read: (from: number) => Promise<History>) {
    this.#read = read
  }

  /** Returns at least the publications after `from`: possibly more, if others asked for a lower offset. */
  after (from: number): Promise<History> {
    if (this.#next !== undefined) {
      this.#next.from = Math.min(this.#next.from, from)
      return this.#next.history
    }
    if (this.#reading === undefined) return this.#start(from)
    const next: NextRead = {
      from,
      history: this.#reading.then(() => {
        this.#next = undefined
        return this.#start(next.from)
      })
    }
    this.#next = next
    return next.history
  }

  #start (from: number): Promise<History> {
    const history = this.#read(from)
    const done = () => { this.#reading = undefined }
    this.#reading = history.then(done, done)
    return history
  }
}
