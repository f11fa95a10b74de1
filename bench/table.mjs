const HEADINGS = ['server', 'load', 'server CPU per delivery, us', 'deliveries, of expected', 'lost', 'p50, ms', 'p99, ms', 'max, ms', 'load generator, us', 'memory per connection, KiB (heap)']

/** Medians of the rounds that a server lived through; what was lost in them is added up. */
export function printTable (results, rates, idleClients) {
  const lines = [HEADINGS, HEADINGS.map((_, i) => i < 2 ? '---' : '---:')]
  for (const { peer: { name }, rounds } of results) {
    rates.forEach((rate, i) => lines.push([name, `${format(rate)}/s`, ...fanOutCells(rounds.map(({ rows }) => rows[i]))]))
    if (idleClients > 0) lines.push([name, `${format(idleClients)} idle`, ...idleCells(rounds.map(({ idle }) => idle))])
  }
  for (const cells of lines) console.log(`| ${cells.join(' | ')} |`)
}

function fanOutCells (rows) {
  const whole = rows.filter(({ ended }) => !ended)
  const ended = `process ended in ${rows.length - whole.length} of ${rows.length}`
  if (whole.length === 0) return [ended, '', '', '', '', '', '', '']
  const expected = sum(whole, 'expected')
  const received = sum(whole, 'received')
  return [
    median(whole.map(({ serverCpu, received }) => serverCpu / received)).toFixed(1),
    `${format(received)} of ${format(expected)}`,
    [lost(expected - received, whole), ...whole.length < rows.length ? [ended] : []].join(', '),
    ...['p50', 'p99', 'max'].map(name => milliseconds(median(whole.map(row => row[name])))),
    median(whole.map(({ cpu, received }) => cpu / received)).toFixed(1),
    ''
  ]
}

function idleCells (rounds) {
  const ended = rounds.filter(({ ended }) => ended).length
  const memory = ended > 0
    ? `process ended in ${ended} of ${rounds.length}`
    : ['rss', 'heap'].map(name => (median(rounds.map(round => round[name])) / 1_024).toFixed(1))
  return ['', '', '', '', '', '', '', ended > 0 ? memory : `${memory[0]} (${memory[1]})`]
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

function milliseconds (ms) {
  return ms < 10 ? ms.toFixed(1) : format(Math.round(ms))
}

function sum (rows, name) {
  return rows.reduce((total, row) => total + row[name], 0)
}

function median (values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

function format (number) {
  return number.toLocaleString('en-US')
}
