import type { Observer } from '../observability/observer.ts'

const PUBLISHES = Symbol('publishes')

interface Publishing { [PUBLISHES]?: number }

/**
 * Returns `run` with its rejections reported. A promise that your app forgets to await must not end the process when
 * it rejects: a client could cause that.
 * @param publishes How many publications a call is for: marks its promise for `publishesOf`. undefined: it publishes
 * nothing.
 */
export function guarded<Args extends unknown[], Result> (
  observer: Observer, call: string, run: (...args: Args) => Result | Promise<Result>, publishes?: (args: NoInfer<Args>) => number
): (...args: Args) => Promise<Result> {
  return (...args) => {
    const promise = (async () => run(...args))()
    promise.catch((error: unknown) => observer.callFailed(call, error))
    if (publishes !== undefined) (promise as Publishing)[PUBLISHES] = publishes(args)
    return promise
  }
}

/**
 * Publications that a promise is for, if a publish has returned this very promise; else undefined. Where a handler
 * returns it, the next message need not wait for Redis.
 */
export function publishesOf (promise: PromiseLike<unknown>): number | undefined {
  return (promise as Publishing)[PUBLISHES]
}
