import type { FastifyBaseLogger, LogLevel } from 'fastify'
import { cloudLogging, isCloudLogger } from '../google/cloud-logging.ts'
import { platformKind } from '../google/platform.ts'
import type { ResolvedLogging } from '../options/resolve.ts'

/** Where log entries are written to. */
export interface LogDestination {
  /** undefined: entries are discarded. */
  readonly log: FastifyBaseLogger | undefined
  /** Whether Cloud Logging reads the entries. Then they carry fields that only Cloud Logging understands. */
  readonly cloud: boolean
  /** Flushes the entries that still wait, within two seconds. */
  close (): Promise<void>
}

const nothing = async (): Promise<void> => {}

/**
 * Opens the app's logger, or one of ours on the same stdout where Cloud Logging could not read the app's entries: on
 * Cloud Run and App Engine, unless the app's logger was made with `cloudLogging()`. Not on Kubernetes: whether it is
 * Google's, only the metadata server tells, and an app's start does not wait for it. `level`: Fastify's `logLevel`.
 */
export async function openLogs (
  appLog: FastifyBaseLogger, logging: ResolvedLogging | false, level: LogLevel | undefined
): Promise<LogDestination> {
  if (logging === false) return { log: undefined, cloud: false, close: nothing }
  if (logging.destination === 'api') {
    // Imported here: Fastify has loaded pino already, unless the app has no logger.
    const [{ pino }, { CloudLoggingApi }] = await Promise.all([import('pino'), import('../google/logging-api.ts')])
    const api = new CloudLoggingApi()
    const log = pino({ ...cloudLogging(), level: knownLevel(level ?? appLog.level, pino.levels.values) }, api)
    return { log, cloud: true, close: () => api.close() }
  }
  const kind = platformKind(process.env)
  if (isCloudLogger(appLog) || kind === undefined || kind === 'kubernetes') {
    const log = level === undefined ? appLog : appLog.child({}, { level })
    return { log, cloud: isCloudLogger(appLog), close: nothing }
  }
  const { pino } = await import('pino')
  return { log: pino({ ...cloudLogging(), level: knownLevel(level ?? appLog.level, pino.levels.values) }), cloud: true, close: nothing }
}

/** The level, if pino knows it: the app's logger may have levels of its own. */
function knownLevel (level: string, known: Record<string, number>): string {
  return level === 'silent' || Object.hasOwn(known, String(level)) ? level : 'info'
}
