/** Runs steps with the same key one after the other, in the order of the calls. Steps with different keys overlap. */
export class Turns {
  /** Per key, the last step under way. */
  #last: Map<string, Promise<unknown>> | undefined

  /** Runs `step` when the earlier steps of this key have settled. */
  take<T> (key: string, step: () => Promise<T>): Promise<T> {
    const last = this.#last ??= new Map<string, Promise<unknown>>()
    const turn = (last.get(key) ?? Promise.resolve()).then(step)
    const settled = turn.catch(() => {}).then(() => { // the caller gets the failure; the next step does not depend on it
      if (last.get(key) === settled) last.delete(key)
    })
    last.set(key, settled)
    return turn
  }

  /** Resolves when the steps of this key that were taken before have settled. */
  async settled (key: string): Promise<void> {
    await this.#last?.get(key)
  }
}
