import { Turns } from './turns.ts'

/**
 * Makes one call per key at a time. Those that ask the same while a call waits for its turn share it: a read that has
 * begun may be older than the question.
 */
export class SharedCalls {
  readonly #turns = new Turns()
  /** Calls that have not begun, by key and question. */
  readonly #waiting = new Map<string, Promise<unknown>>()

  take<T> (key: string, question: string, call: () => Promise<T>): Promise<T> {
    const name = `${key}\n${question}`
    const waiting = this.#waiting.get(name) as Promise<T> | undefined
    if (waiting !== undefined) return waiting
    const answer = this.#turns.take(key, () => {
      this.#waiting.delete(name)
      return call()
    })
    this.#waiting.set(name, answer)
    return answer
  }
}
