import closeWithGrace from 'close-with-grace'
import type { FastifyBaseLogger } from 'fastify'
import { settledWithin } from '../util/timeout.ts'

interface Handler {
  readonly timeout: number
  readonly run: () => Promise<void>
  readonly log: FastifyBaseLogger
}

/** Shutdown handlers of all apps in this process. The first one to finish must not end the process for the others. */
const handlers = new Set<Handler>()
let installed: { uninstall (): void } | undefined

/** Events that keep the meaning that Node or the app gives them. */
const skip = [
  'SIGHUP', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'uncaughtException',
  'unhandledRejection', 'beforeExit'
] as const

/**
 * Calls `run` at SIGTERM and SIGINT. The process exits with code 0 when all handlers are done, or after the longest
 * `timeout` (ms). Returns a function that removes the handler.
 */
export function onShutdownSignal (timeout: number, run: () => Promise<void>, log: FastifyBaseLogger): () => void {
  const handler = { timeout, run, log }
  handlers.add(handler)
  installed ??= closeWithGrace({ delay: false, logger: false, skip: [...skip] }, runAll)
  return () => {
    handlers.delete(handler)
    if (handlers.size > 0) return
    installed?.uninstall()
    installed = undefined
  }
}

async function runAll (): Promise<void> {
  const longest = Math.max(...Array.from(handlers, ({ timeout }) => timeout))
  // A hook of the app that fails or hangs must not keep the process: the other steps have run.
  const runs = Array.from(handlers, ({ run, log }) => run().catch((err: unknown) => log.error({ err }, 'Shutdown failed')))
  await settledWithin(Promise.all(runs), longest)
}
