type Task = () => unknown

export function isPromise (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | undefined | null)?.then === 'function'
}

/** Runs tasks one after the other: the next starts when the promise of the one before has settled. */
export class TaskQueue {
  #running = false
  #waiting: Task[] | undefined

  /** True if a task would run at once. */
  get idle (): boolean { return !this.#running }

  /** Runs a task in its turn; at once if the queue is idle. The task MUST NOT throw or reject. */
  push (task: Task): void {
    if (this.#running) {
      this.#waiting ??= []
      this.#waiting.push(task)
    } else {
      this.#run(task)
    }
  }

  /**
   * Makes the next task wait for something that an idle queue's owner has started itself. The promise MUST NOT
   * reject.
   */
  waitFor (promise: PromiseLike<unknown>): void {
    this.#running = true
    promise.then(() => this.#next())
  }

  #run (first: Task): void {
    this.#running = true
    for (let task: Task | undefined = first; task !== undefined; task = this.#waiting?.shift()) {
      const result = task()
      if (isPromise(result)) return this.waitFor(result)
    }
    this.#running = false
  }

  #next (): void {
    const task = this.#waiting?.shift()
    if (task === undefined) this.#running = false
    else this.#run(task)
  }
}
