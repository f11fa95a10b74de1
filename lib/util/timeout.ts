/** Resolves when the promise has settled, however, or after `ms`; leaves no timer behind. */
export async function within (ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise(resolve => { timer = setTimeout(resolve, Math.max(0, ms)) })
  await Promise.race([promise.catch(() => {}), timeout]) // whether it failed is for somebody else to tell
  clearTimeout(timer)
}
