import type { FastifyInstance } from 'fastify'
import type { Drain, DrainBudget } from './drain.ts'
import { onShutdownSignal } from './signals.ts'
import type { ResolvedOptions } from '../options/options.ts'

/*
 * Time budget of a shutdown. Cloud Run kills the process 10 s after SIGTERM
 * (docs.cloud.google.com/run/docs/container-contract#instance-shutdown). With the default `shutdown.timeout` of 8 s:
 *
 *   ms after SIGTERM
 *        0                 upgrades and `/ready` answer 503; connections are closed in batches
 *    4_000  CLOSE_BY       the last connection was told to close
 *    5_600  TERMINATE_BY   connections that did not answer are terminated
 *    6_400  SETTLE_BY      handlers of the app (`onDisconnect`) are no longer awaited; then the flush begins
 *    8_000  timeout        metrics are flushed: they get the time that is left, within MIN_FLUSH and MAX_FLUSH. Log entries are flushed
 *                          meanwhile, in 2_000 at most (FLUSH_TIMEOUT in google/logging-api.ts)
 *                          Fastify closes; hooks of the app run; the record of this instance is removed (the timeout of a Redis command
 *                          applies), and each Redis connection closes in 500 at most (CLOSE_TIMEOUT in backends/redis/link.ts)
 *    9_000  MARGIN         the process exits, whatever still hangs
 *   10_000                 SIGKILL
 *
 * A step that ends early leaves its time to the next one.
 */

/** Shares of `shutdown.timeout`, counted from the start. */
const CLOSE_BY = 0.5
const TERMINATE_BY = 0.7
const SETTLE_BY = 0.8
/** ms that the last export of metrics may take: at least, and at most. */
const MIN_FLUSH = 500
const MAX_FLUSH = 3_000
/** ms that the process may live on after `shutdown.timeout`. */
const MARGIN = 1_000
/** ms that closing connections may take with `shutdown: false`. */
const NO_DRAIN = 500

/** The steps of a shutdown besides the drain, in their order. */
export interface ShutdownSteps {
  /** Answers upgrades with 503. */
  refuseUpgrades (): void
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
    // Not in onClose: Fastify runs it after every request was answered, which may take longer than there is time.
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
