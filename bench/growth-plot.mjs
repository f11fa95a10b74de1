const PANEL = { width: 300, height: 230, left: 58, right: 18, top: 40, bottom: 34 }
const LEGEND_HEIGHT = 26
/** Readable on white and on black. */
const COLOURS = ['#7f8790', '#d9822b', '#2b8fd9', '#c24b9a', '#3a9d5d', '#8a63d2', '#c9a227', '#d24b4b']
const STYLE = 'text{font:11px system-ui,sans-serif;fill:#333}.title{font-weight:600}line{stroke:#333;stroke-opacity:.25}polyline{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#ddd}line{stroke:#ddd}}'

/** An SVG with one panel for each thing that grows; both axes are logarithmic but that of a few small counts. */
export function drawGrowth (panels, peers) {
  const width = PANEL.width * panels.length
  const height = PANEL.height + LEGEND_HEIGHT
  const body = [...panels.map((panel, i) => drawPanel(panel, peers, i * PANEL.width)), drawLegend(peers, width)]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>How the servers' CPU grows</title>
<style>${STYLE}</style>
${body.flat().join('\n')}
</svg>
`
}

function drawPanel ({ title, unit, results }, peers, offset) {
  const points = results
    .filter(({ row, per }) => !row.ended && row[per] > 0)
    .map(({ peer, value, row, per }) => ({ peer, value, cost: row.serverCpu / row[per] }))
  const values = [...new Set(results.map(({ value }) => value))]
  const x = horizontal(values, offset)
  const { scale: y, ticks } = vertical(points.length > 0 ? points.map(({ cost }) => cost) : [1])
  const right = offset + PANEL.width - PANEL.right
  return [
    `<text class="title" x="${offset + PANEL.left}" y="16">${title}</text>`,
    `<text x="${offset + PANEL.left}" y="31">${unit}</text>`,
    ...ticks.flatMap(tick => [
      `<line x1="${offset + PANEL.left}" x2="${right}" y1="${y(tick)}" y2="${y(tick)}"/>`,
      `<text x="${offset + PANEL.left - 6}" y="${round(y(tick) + 4)}" text-anchor="end">${tick.toLocaleString('en-US')}</text>`
    ]),
    ...values.map(value => `<text x="${x(value)}" y="${PANEL.height - PANEL.bottom + 18}" text-anchor="middle">${value.toLocaleString('en-US')}</text>`),
    ...peers.flatMap((peer, i) => {
      const places = points.filter(point => point.peer === peer).map(({ value, cost }) => [x(value), y(cost)])
      return drawLine(places, COLOURS[i % COLOURS.length])
    })
  ]
}

function drawLine (places, colour) {
  return [
    `<polyline stroke="${colour}" points="${places.map(place => place.join()).join(' ')}"/>`,
    ...places.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="3" fill="${colour}"/>`)
  ]
}

function drawLegend (peers, width) {
  return peers.flatMap((peer, i) => {
    const x = round(PANEL.left + i * (width - PANEL.left) / peers.length)
    const y = PANEL.height + 12
    return [`<circle cx="${x}" cy="${y - 4}" r="4" fill="${COLOURS[i % COLOURS.length]}"/>`, `<text x="${x + 9}" y="${y}">${peer.name.replaceAll('`', '')}</text>`]
  })
}

function horizontal (values, offset) {
  const of = values.at(-1) / values[0] > 10 ? Math.log : Number
  const [from, to] = [offset + PANEL.left + 14, offset + PANEL.width - PANEL.right - 14]
  const [first, last] = [of(values[0]), of(values.at(-1))]
  return value => round(last === first ? from : from + (of(value) - first) / (last - first) * (to - from))
}

/** From one 1, 2 or 5 times a power of ten to another. */
function vertical (costs) {
  const steps = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map(digit => digit * 10 ** (power - 2))).flat()
  const first = steps.findLastIndex(step => step <= Math.min(...costs))
  const last = steps.findIndex(step => step >= Math.max(...costs))
  const ticks = steps.slice(Math.max(0, first), Math.max(first + 1, last) + 1)
  const [low, high] = [Math.log(ticks[0]), Math.log(ticks.at(-1))]
  const [bottom, top] = [PANEL.height - PANEL.bottom, PANEL.top]
  return { ticks, scale: cost => round(bottom - (Math.log(cost) - low) / (high - low) * (bottom - top)) }
}

function round (number) {
  return Math.round(number * 10) / 10
}
