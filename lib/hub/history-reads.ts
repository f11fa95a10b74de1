import type { History } from '../model/broker.ts'

interface NextRead {
  /** Offset after which it reads. */
  from: number
  readonly history: Promise<History>
}

/**
 * Reads of one channel's history, one at a time. Who comes while a read is under way shares the next one: when an
 * instance goes, all its clients come back at once, each with a position of its own, and as many reads of the same
 * history would keep Redis from everything else.
 */
export class HistoryReads {
  readonly #read: (from: number) => Promise<History>
  #reading: Promise<unknown> | undefined
  #next: NextRead | undefined

  /**
   * `read`: what was published after this offset; Infinity: the position alone. Whose epoch is another one is found
   * out by each for itself.
   */
  constructor (read: (from: number) => Promise<History>) {
    this.#read = read
  }

  /** What was published after `from`, at least. */
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
