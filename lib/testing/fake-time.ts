import { setImmediate } from 'node:timers'
import { InvalidArgumentError } from '../model/errors.ts'
import { milliseconds } from '../options/checks.ts'
import type { Duration } from '../options/checks.ts'
import { TimeIsFakeError } from './errors.ts'
import { FakeTimers } from './fake-timers.ts'

/** Turns of the event loop after each timer: enough for a ping and its pong, and for what handlers do then. */
const TURNS = 20

/** Time that stands still until a test moves it. */
export interface FakeTime extends Disposable {
  /**
   * Moves the time on by milliseconds, or a duration such as '57m'. Runs every timer that is due on the way, in order
   * and at its time, and lets promises and sockets of this process settle after each.
   * @throws FST_CRWS_INVALID_ARGUMENT, and what a timer throws
   */
  move (duration: Duration): Promise<void>
  /** Brings the real time back. Timers that were set meanwhile never run. */
  restore (): void
}

let current: FakeTime | undefined

/**
 * Replaces `Date`, `setTimeout` and `setInterval`, and what clears them, by ones that stand still. Call it before the
 * app is built: timers that run already stay real.
 * @throws FST_CRWS_TEST_TIME if the time is fake already
 */
export function fakeTime (): FakeTime {
  if (current !== undefined) throw new TimeIsFakeError()
  const timers = new FakeTimers(Date.now())
  const { Date: RealDate, setTimeout, setInterval, clearTimeout, clearInterval } = globalThis
  const restore = () => {
    if (current !== time) return
    Object.assign(globalThis, { Date: RealDate, setTimeout, setInterval, clearTimeout, clearInterval })
    current = undefined
  }
  const time: FakeTime = { move: duration => move(timers, duration), restore, [Symbol.dispose]: restore }
  Object.assign(globalThis, timers.globals(clearTimeout))
  current = time
  return time
}

async function move (timers: FakeTimers, duration: Duration): Promise<void> {
  const ms = milliseconds(duration)
  if (ms === undefined || ms < 0) {
    throw new InvalidArgumentError('duration', String(duration), "a number of milliseconds that is not negative, or a string such as '57m'")
  }
  const end = timers.now + ms
  await settled()
  while (timers.runNext(end)) await settled()
  timers.now = end
}

async function settled (): Promise<void> {
  for (let i = 0; i < TURNS; i++) await new Promise<void>(resolve => setImmediate(resolve))
}
