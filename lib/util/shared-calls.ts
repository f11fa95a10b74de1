import { Turns } from './turns.ts'

/** Questions that may wait for their turn, per key. */
const MAX_WAITING = 16

interface Waiting<T> {
  readonly answer: Promise<T | undefined>
  /** Each returns false once its asker has gone. */
  readonly askers: Array<() => boolean>
}

/**
 * Makes one call per key at a time. Those that ask the same while a call waits for its turn share it: a read that has
 * begun may be older than the question.
 */
export class SharedCalls {
  readonly #turns = new Turns()
  /** Calls that have not begun, by key and question. */
  readonly #waiting = new Map<string, Map<string, Waiting<unknown>>>()

  /**
   * Resolves with the result of `call`; undefined if too many questions wait, or if all who asked have gone.
   * @param wanted Returns false once the asker has gone.
   */
  take<T> (key: string, question: string, wanted: () => boolean, call: () => Promise<T>): Promise<T | undefined> {
    const questions = this.#waiting.get(key) ?? new Map<string, Waiting<unknown>>()
    const same = questions.get(question) as Waiting<T> | undefined
    if (same !== undefined) {
      same.askers.push(wanted)
      return same.answer
    }
    if (questions.size >= MAX_WAITING) return Promise.resolve(undefined)
    const askers = [wanted]
    const answer = this.#turns.take(key, async () => {
      questions.delete(question)
      if (questions.size === 0) this.#waiting.delete(key)
      return askers.some(isWanted => isWanted()) ? call() : undefined
    })
    questions.set(question, { answer, askers })
    this.#waiting.set(key, questions)
    return answer
  }
}
