import type { Observer } from '../observability/observer.ts'

/**
 * Returns `run` with its rejections reported. A promise that your app forgets to await must not end the process when
 * it rejects: a client could cause that.
 */
export function guarded<Args extends unknown[], Result> (
  observer: Observer, call: string, run: (...args: Args) => Result | Promise<Result>
): (...args: Args) => Promise<Result> {
  return (...args) => {
    const promise = (async () => run(...args))()
    promise.catch((error: unknown) => observer.callFailed(call, error))
    return promise
  }
}
