import { printMarkdown } from './markdown.mjs'
import { format, median, milliseconds, sum } from './numbers.mjs'

const FAN_OUT = ['server', 'load', 'server CPU per delivery, us', 'deliveries, of expected', 'lost', 'p50, ms', 'p99, ms', 'max, ms', 'load generator, us']
const PER_SERVER = ['server', 'most deliveries per second', 'upgrades per second', 'server CPU per upgrade, us', 'in a young process, us', 'memory per idle connection, KiB (heap)']

/** Medians of the rounds that a server lived through; what was lost in them is added up. */
export function printTables (results, { rates, idleClients, acceptClients, searches }) {
  if (rates.length > 0) {
    printMarkdown(FAN_OUT, results.flatMap(({ peer: { name }, rounds }) => rates.map((rate, i) => [name, `${format(rate)}/s`, ...fanOutCells(rounds.map(({ rows }) => rows[i]))])), 2)
  }
  if (idleClients + acceptClients + searches === 0) return
  console.log('')
  printMarkdown(PER_SERVER, results.map(({ peer: { name }, rounds }) => [name, ...serverCells(rounds)]), 1)
}

function fanOutCells (rows) {
  const whole = rows.filter(({ ended }) => !ended)
  const ended = `process ended in ${rows.length - whole.length} of ${rows.length}`
  if (whole.length === 0) return [ended, '', '', '', '', '', '']
  const expected = sum(whole, 'expected')
  const received = sum(whole, 'received')
  return [
    median(whole.map(({ serverCpu, received }) => serverCpu / received)).toFixed(1),
    `${format(received)} of ${format(expected)}`,
    [lost(expected - received, whole), ...whole.length < rows.length ? [ended] : []].join(', '),
    ...['p50', 'p99', 'max'].map(name => milliseconds(median(whole.map(row => row[name])))),
    median(whole.map(({ cpu, received }) => cpu / received)).toFixed(1)
  ]
}

function serverCells (rounds) {
  const cell = (name, text) => {
    const rows = rounds.map(round => round[name]).filter(row => row !== undefined)
    const ended = rows.filter(row => row.ended).length
    if (ended > 0) return `process ended in ${ended} of ${rows.length}`
    return rows.length === 0 ? '' : text(key => median(rows.map(row => row[key])), rows)
  }
  return [
    cell('saturation', (of, rows) => `${rows.some(({ limited }) => limited) ? 'over ' : ''}${format(Math.round(of('deliveries')))}`),
    cell('accept', of => format(Math.round(of('perSecond')))),
    cell('accept', of => of('cpu').toFixed(0)),
    cell('accept', of => of('youngCpu').toFixed(0)),
    cell('idle', of => `${(of('rss') / 1_024).toFixed(1)} (${(of('heap') / 1_024).toFixed(1)})`)
  ]
}

function lost (count, rows) {
  const [refused, disordered, closed] = ['refused', 'disordered', 'closed'].map(name => sum(rows, name))
  return [
    format(count),
    ...refused > 0 ? [`${format(refused)} publications refused`] : [],
    ...disordered > 0 ? [`${format(disordered)} twice or out of order`] : [],
    ...closed > 0 ? [`${format(closed)} clients closed`] : []
  ].join(', ')
}
