/**
 * Resolves when the promise has settled, to true, or after `ms`, to false. Never rejects: the failure is for whoever
 * made the promise to report. Leaves no timer behind.
 */
export async function settledWithin (promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>(resolve => { timer = setTimeout(resolve, Math.max(0, ms), false) })
  const inTime = await Promise.race([promise.then(() => true, () => true), late])
  clearTimeout(timer)
  return inTime
}

/**
 * Settles as the promise does. After `ms` it rejects instead, with the error 'MESSAGE within N s'; what the promise
 * does later is ignored. The timer does not keep the process alive.
 */
export async function withTimeout<T> (promise: Promise<T>, ms: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${message} within ${ms / 1_000} s`)), ms).unref()
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
