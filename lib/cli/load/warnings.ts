import { UsageError } from '../command.ts'
import type { LoadOptions } from './options.ts'

/** Upgrades a minute that the plugin takes from one address by default. */
const UPGRADES_PER_MINUTE = 6_000
const MINUTE = 60_000
/** Files that this process needs besides its sockets. */
const SPARE_FILES = 64

/** Files that this process may have open; undefined if the system does not say. */
export function openFileLimit (): number | undefined {
  const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft: number | string } } }
  const soft = userLimits?.open_files?.soft
  return typeof soft === 'number' ? soft : undefined // it may be 'unlimited'
}

/** @throws UsageError if the sockets would not fit into the limit */
export function checkFiles (connections: number, limit: number | undefined): void {
  if (limit === undefined || connections + SPARE_FILES <= limit) return
  throw new UsageError(`${connections} connections need ${connections + SPARE_FILES} open files, but this process may have only ${limit}.` +
    ` Raise the limit ('ulimit -n ${connections + SPARE_FILES}'), or use several processes`)
}

/** What will happen, and what to mind about it. */
export function announcement ({ url, protocol, connections, ramp, duration, publish, size }: LoadOptions): string {
  const lines = [`Connecting ${connections} ${protocol} clients to ${url} within ${ramp / 1_000} s, then ${publish} publications` +
    ` of ${size} bytes a second for ${duration / 1_000} s.`]
  const inOneMinute = connections * Math.min(1, MINUTE / ramp)
  if (inOneMinute > UPGRADES_PER_MINUTE) {
    lines.push(`Warning: one address sends ${Math.round(inOneMinute)} upgrades in a minute. The plugin's default limit is` +
      ` ${UPGRADES_PER_MINUTE}; the others get 429. Use a longer --ramp or several addresses, or raise rateLimit.connections.`)
  }
  return `${lines.join('\n')}\n`
}
