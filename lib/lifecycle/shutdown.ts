import type { FastifyInstance } from 'fastify'
import type { Drain, DrainBudget } from './drain.ts'
import { onShutdownSignal } from './signals.ts'
import type { ResolvedOptions } from '../options/resolve.ts'

/*
 * Time budget of a shutdown. Cloud Run kills the process 10 s after SIGTERM
 * (docs.cloud.google.com/run/docs/container-contract#instance-shutdown). With the default `shutdown.timeout` of 8 s:
 *
 *   until   step                     bound
 *   4_000   close connections        CLOSE_BY: by then the last one was told to close
 *   5_600   wait for their clients   TERMINATE_BY: those that did not answer are terminated
 *   6_400   wait for the app         SETTLE_BY: `onDisconnect` handlers are no longer awaited
 *   8_000   flush                    metrics: the time that is left, within MIN_FLUSH and MAX_FLUSH
 *                                    log entries, meanwhile: 2_000 (FLUSH_TIMEOUT in google/logging-api.ts)
 *   9_000   release                  hooks of the app and open requests: MARGIN, then the process exits
 *                                    record of this instance: 2_000 (COMMAND_TIMEOUT in backends/redis/commands.ts)
 *                                    each Redis connection: 500 (CLOSE_TIMEOUT in backends/redis/client.ts)
 *  10_000   (SIGKILL)
 *
 * Times are ms after SIGTERM. A step that ends early leaves its time to the next ones.
 */

/** Shares of `shutdown.timeout`, counted from the start. */
const CLOSE_BY = 0.5
const TERMINATE_BY = 0.7
const SETTLE_BY = 0.8
/** ms for the last export of metrics: at least, and at most. */
const MIN_FLUSH = 500
const MAX_FLUSH = 3_000
/** ms that the process may live on after `shutdown.timeout`. */
const MARGIN = 1_000
/** `shutdown.timeout` in ms where the app has set `shutdown: false`. */
const NO_DRAIN = 500

/** The steps of a shutdown besides the drain, in their order. */
export interface ShutdownSteps {
  /** Answers upgrades with 503. */
  refuseUpgrades (): void
  /** Called when the clients have gone. */
  drained (): void
  /** Sends the last metrics, within `budget` ms, and the last log entries. */
  flush (budget: number): Promise<unknown>
  /** Stops the heartbeat, removes the record of this instance, and closes Redis. */
  release (): Promise<void>
}

/** Installs the shutdown of this app: at SIGTERM and SIGINT if the options say so, and at `app.close()`. */
export function addShutdown (app: FastifyInstance, options: ResolvedOptions['shutdown'], drain: Drain, steps: ShutdownSteps): void {
  const timeout = options === false ? NO_DRAIN : options.timeout
  const budget = drainBudget(timeout)
  const atSignal = async () => {
    await drain.start(budget) // not yet app.close(): probes are still answered
    await app.close()
  }
  const removeSignals = options !== false && options.signals ? onShutdownSignal(timeout + MARGIN, atSignal, app.log) : () => {}
  app.addHook('preClose', async () => {
    steps.refuseUpgrades()
    await drain.start(budget)
    drain.terminateOthers() // a handler of the app may have accepted one meanwhile
    steps.drained()
    // Not in onClose: Fastify runs it after all requests were answered, which may be too late.
    await steps.flush(Math.min(MAX_FLUSH, Math.max(MIN_FLUSH, drain.left)))
  })
  app.addHook('onClose', async () => {
    removeSignals()
    await steps.release()
  })
}

function drainBudget (timeout: number): DrainBudget {
  return { timeout, closeBy: timeout * CLOSE_BY, terminateBy: timeout * TERMINATE_BY, settleBy: timeout * SETTLE_BY }
}
