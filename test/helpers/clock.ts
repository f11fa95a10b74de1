import type { Test } from 'tap'

/** Stops `Date.now` until the test ends. The function that it returns moves it on by so many milliseconds. */
export function stopClock (t: Test): (ms: number) => void {
  let now = Date.now()
  t.intercept(Date, 'now', { value: () => now })
  return ms => { now += ms }
}
