import type { FastifyBaseLogger } from 'fastify'
import { cloudLogging, isCloudLogger } from '../google/cloud-logging.ts'
import type { ResolvedLogging } from '../options/options.ts'

/** Where entries go. */
export interface LogDestination {
  /** undefined: nowhere. */
  readonly log: FastifyBaseLogger | undefined
  /** Whether Cloud Logging reads it; then entries carry what only Cloud Logging understands. */
  readonly cloud: boolean
  /** Sends what still waits, in two seconds at the most. */
  close (): Promise<void>
}

const nothing = async (): Promise<void> => {}

/**
 * The host's logger, unless entries would reach Cloud Logging in a form that it can not read: on Cloud Run a logger that was not
 * made with `cloudLogging()` is passed over, for one of ours on the same stdout.
 */
export async function openLogs (host: FastifyBaseLogger, logging: ResolvedLogging | false): Promise<LogDestination> {
  if (logging === false) return { log: undefined, cloud: false, close: nothing }
  if (logging.destination === 'api') {
    // pino costs nothing where Fastify has loaded it, and something where the host has turned its logger off.
    const [{ pino }, { CloudLoggingApi }] = await Promise.all([import('pino'), import('../google/logging-api.ts')])
    const api = new CloudLoggingApi()
    return { log: pino({ ...cloudLogging(), level: levelOf(host, pino.levels.values) }, api), cloud: true, close: () => api.close() }
  }
  if (isCloudLogger(host) || !process.env.K_SERVICE) return { log: host, cloud: isCloudLogger(host), close: nothing }
  const { pino } = await import('pino')
  return { log: pino({ ...cloudLogging(), level: levelOf(host, pino.levels.values) }), cloud: true, close: nothing }
}

/** The host's own level, where it is one that pino knows. */
function levelOf ({ level }: FastifyBaseLogger, known: Record<string, number>): string {
  return level === 'silent' || Object.hasOwn(known, String(level)) ? level : 'info'
}
