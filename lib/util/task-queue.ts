type Task = () => unknown

export function isPromise (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | undefined | null)?.then === 'function'
}

/** Runs tasks one after the other: the next begins when the promise of the one before has settled. Costs nothing while tasks are synchronous. */
export class TaskQueue {
  #running = false
  #waiting: Task[] | undefined

  get length (): number { return this.#waiting?.length ?? 0 }

  /** The task MUST NOT throw or reject. */
  push (task: Task): void {
    if (this.#running) {
      this.#waiting ??= []
      this.#waiting.push(task)
    } else {
      this.#run(task)
    }
  }

  #run (first: Task): void {
    this.#running = true
    for (let task: Task | undefined = first; task !== undefined; task = this.#waiting?.shift()) {
      const result = task()
      if (isPromise(result)) {
        result.then(() => this.#next())
        return
      }
    }
    this.#running = false
  }

  #next (): void {
    const task = this.#waiting?.shift()
    if (task === undefined) this.#running = false
    else this.#run(task)
  }
}
