import { setTimeout as wait } from 'node:timers/promises'

/** Polls until `fn` returns something truthy. A throw counts as "not yet", so assertions may be used inside. */
export async function until<T> (fn: () => T | Promise<T>, message: string, timeout = 10_000): Promise<T> {
  const deadline = Date.now() + timeout
  let cause: unknown
  for (;;) {
    try {
      const value = await fn()
      if (value) return value
      cause = undefined
    } catch (error) {
      cause = error
    }
    if (Date.now() > deadline) throw new Error(`not within ${timeout} ms: ${message}`, { cause })
    await wait(10)
  }
}
