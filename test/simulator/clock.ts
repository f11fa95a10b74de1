import { install } from '@sinonjs/fake-timers'
import { syncBuiltinESMExports } from 'node:module'

/** Unix time in milliseconds at which every simulation begins. */
const START = 1_700_000_000_000

const realImmediate = setImmediate

/** A clock that stands still until it is told to go on. While it is installed, all timers and `Date` are its own. */
export class VirtualClock {
  readonly #clock = install({
    now: START,
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate', 'clearImmediate', 'Date']
  })

  constructor () {
    syncBuiltinESMExports() // for `import { setTimeout } from 'node:timers/promises'`
  }

  /** Milliseconds since the start. */
  get now (): number { return this.#clock.now - START }

  /** Runs timers one after the other, and after each what waits for promises, until `ms` have passed. */
  async run (ms: number): Promise<void> {
    const until = this.#clock.now + ms
    setTimeout(() => {}, ms) // the last one to run
    await promisesSettled()
    while (this.#clock.now < until) {
      this.#clock.next()
      await promisesSettled()
    }
  }

  uninstall (): void {
    this.#clock.reset()
    this.#clock.uninstall()
    syncBuiltinESMExports()
  }
}

/** Resolves when no promise has anything left to do: a real immediate comes after all of them. */
function promisesSettled (): Promise<void> {
  return new Promise(resolve => { realImmediate(resolve) })
}
