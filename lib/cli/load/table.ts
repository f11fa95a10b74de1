import type { Percentiles } from './latency.ts'
import type { Report } from './report.ts'

/** Columns of the names. */
const WIDTH = 24

/** A report to read. */
export function table (report: Report): string {
  const { connections, subscriptions, publications, deliveries, bytes, generator } = report
  return [
    `Load test of ${report.url}, ${report.startedAt}, ${report.seconds} s${report.interrupted ? ', ended early' : ''}`,
    '',
    'Connections',
    row('connected', `${connections.opened} of ${connections.asked}`),
    row('time to connect', times(connections.connectTime)),
    row('refused', reasons(connections.refused)),
    row('failed', reasons(connections.failed)),
    row('closed by', reasons(connections.closed)),
    row('reconnects', connections.reconnects),
    row('time away', times(connections.awayTime)),
    row('told not to reconnect', connections.gone),
    ...report.protocol === 'plain'
      ? []
      : [
          '',
          'Subscriptions',
          row('refused', reasons(subscriptions.errors)),
          row('ended by', reasons(subscriptions.ended)),
          row('recovered', `${subscriptions.recovered} of ${subscriptions.recovered + subscriptions.unrecovered}`)
        ],
    '',
    'Publications',
    row('sent', `${publications.sent} (${publications.perSecond.toFixed(1)} a second)`),
    ...report.protocol === 'plain' ? [] : [row('acknowledged', publications.acknowledged)],
    row('refused', reasons(publications.errors)),
    row('unanswered', publications.unanswered),
    row('not sent', publications.unsent),
    '',
    'Deliveries',
    row('expected', deliveries.expected),
    row('received', deliveries.received),
    row('lost', deliveries.lost),
    row('duplicated', deliveries.duplicated),
    row('out of order', deliveries.outOfOrder + deliveries.wrongOffsets),
    row('from others', deliveries.foreign),
    row('latency', times(deliveries.latency)),
    row('latency if recovered', times(deliveries.recoveredLatency)),
    '',
    'Traffic and this process',
    row('sent, received', `${megabytes(bytes.sent)}, ${megabytes(bytes.received)}`),
    row('timers late', times(generator.late)),
    ...generator.saturated ? ['', SATURATED] : [],
    '',
    report.ok ? 'OK' : `NOT OK: ${report.problems.join('; ')}`,
    ''
  ].join('\n')
}

const SATURATED = 'This process was the limit: its timers were late, so the latencies say little about the service. Use several processes or a larger machine.'

function row (name: string, value: string | number): string {
  return `  ${name.padEnd(WIDTH)}${value}`
}

function times ({ count, p50, p90, p99, max }: Percentiles): string {
  if (count === 0) return '-'
  return Object.entries({ p50, p90, p99, max }).map(([name, ms]) => `${name} ${ms?.toFixed(1)}`).join('  ') + ' ms'
}

function reasons (counts: Record<string, number>): string {
  const entries = Object.entries(counts)
  return entries.length === 0 ? '0' : entries.map(([reason, count]) => `${count} x ${reason.trim()}`).join(', ')
}

function megabytes (bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
