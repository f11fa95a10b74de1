import closeWithGrace from 'close-with-grace'
import type { FastifyBaseLogger } from 'fastify'
import { within } from '../util/timeout.ts'

/** ms that the process may outlive a shutdown's own timeout. Cloud Run kills it 10 s after SIGTERM (docs.cloud.google.com/run/docs/container-contract#instance-shutdown). */
const MARGIN = 1_000

interface Shutdown {
  readonly timeout: number
  readonly run: () => Promise<void>
  readonly log: FastifyBaseLogger
}

/** Of all apps in this process: whoever is done first must not end it for the others. */
const shutdowns = new Set<Shutdown>()
let installed: { uninstall (): void } | undefined

/** Everything else keeps the meaning that Node or the host gives it. */
const skip = ['SIGHUP', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'uncaughtException', 'unhandledRejection', 'beforeExit'] as const

/**
 * At SIGTERM and SIGINT runs `run`, then ends the process with exit code 0: when all are done, or when `timeout` has passed.
 * Returns the function that takes it back.
 */
export function onShutdownSignal (timeout: number, run: () => Promise<void>, log: FastifyBaseLogger): () => void {
  const shutdown = { timeout, run, log }
  shutdowns.add(shutdown)
  installed ??= closeWithGrace({ delay: false, logger: false, skip: [...skip] }, runAll)
  return () => {
    shutdowns.delete(shutdown)
    if (shutdowns.size > 0) return
    installed?.uninstall()
    installed = undefined
  }
}

async function runAll (): Promise<void> {
  const longest = Math.max(...Array.from(shutdowns, ({ timeout }) => timeout))
  // A hook of the host that failed or hangs must not keep the process: what could be saved is saved.
  await within(longest + MARGIN, Promise.all(Array.from(shutdowns, ({ run, log }) => run().catch((err: unknown) => log.error({ err }, 'Shutdown failed')))))
}
