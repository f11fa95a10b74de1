import type { FastifyBaseLogger } from 'fastify'
import { settledWithin } from '../util/timeout.ts'

interface Handler {
  readonly timeout: number
  readonly run: () => Promise<void>
  readonly log: FastifyBaseLogger
}

const SIGNALS = ['SIGTERM', 'SIGINT'] as const
/**
 * ms after the first signal in which another SIGINT is the same Ctrl-C: the terminal sends it to all processes of the
 * group, and `npm start` passes its own on. After that it is a person who does not want to wait.
 */
const SAME_KEYSTROKE = 2_000

/** Shutdown handlers of all apps in this process. The first one to finish must not end the process for the others. */
const handlers = new Set<Handler>()
/** From `performance.now()`; undefined before the first signal. */
let firstSignalAt: number | undefined

/**
 * Calls `run` at SIGTERM and SIGINT. The process exits with code 0 when all handlers are done, or after the longest
 * `timeout` (ms). Another SIGTERM changes nothing; a SIGINT two seconds later ends the process at once, with code 1.
 * Returns a function that removes the handler.
 */
export function onShutdownSignal (timeout: number, run: () => Promise<void>, log: FastifyBaseLogger): () => void {
  const handler = { timeout, run, log }
  if (handlers.size === 0) for (const signal of SIGNALS) process.on(signal, onSignal)
  handlers.add(handler)
  return () => {
    handlers.delete(handler)
    // Once a signal has come the listener stays: without it the next one would end the process.
    if (handlers.size > 0 || firstSignalAt !== undefined) return
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

function onSignal (signal: NodeJS.Signals): void {
  if (firstSignalAt === undefined) {
    firstSignalAt = performance.now()
    runAll().then(() => process.exit(0))
  } else if (signal === 'SIGINT' && performance.now() - firstSignalAt > SAME_KEYSTROKE) {
    process.exit(1)
  }
}

/** Never rejects. */
async function runAll (): Promise<void> {
  const longest = Math.max(...Array.from(handlers, ({ timeout }) => timeout))
  // A hook of the app that fails or hangs must not keep the process: the other steps have run.
  const runs = Array.from(handlers, ({ run, log }) => run().catch((err: unknown) => log.error({ err }, 'Shutdown failed')))
  await settledWithin(Promise.all(runs), longest)
}
