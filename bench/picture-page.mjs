// A page that shows a dashboard of Cloud Monitoring's form as its console does: tiles on a grid, charts as SVG.

/** px of a grid block, and around. */
const COLUMN = 28
const ROW = 14
const GAP = 8
const HEADER = 62
export const WIDTH = 48 * COLUMN + GAP
const COLOURS = ['#1a73e8', '#12b5cb', '#e8710a', '#9334e6', '#e52592', '#7cb342', '#f9ab00', '#5f6368', '#d01884']

/** `evaluate(query, time)` gives `[{ labels, value }]`. */
export function page ({ dashboard, times, evaluate, entries, incidents }) {
  const { tiles } = dashboard.mosaicLayout
  const height = HEADER + ROW * Math.max(...tiles.map(({ yPos, height }) => yPos + height)) + GAP
  const content = { xyChart, scorecard, logsPanel, incidentList }
  const cards = tiles.map(({ xPos, yPos, width, height, widget }) => {
    const [kind] = Object.keys(content).filter(kind => kind in widget)
    const size = { width: width * COLUMN - GAP, height: height * ROW - GAP }
    const inner = content[kind](widget[kind], size, { times, evaluate, entries, incidents })
    return `<section style="left:${xPos * COLUMN + GAP}px;top:${HEADER + yPos * ROW}px;width:${size.width}px;height:${size.height}px"><h2>${escape(widget.title)}</h2>${inner}</section>`
  })
  return `<!doctype html><meta charset="utf-8"><style>
    body { margin: 0; background: #f1f3f4; font: 11px Roboto, Arial, 'Liberation Sans', sans-serif; color: #3c4043; position: relative; width: ${WIDTH}px; height: ${height}px }
    header { padding: 12px 16px } h1 { font-size: 18px; font-weight: 500; margin: 0 } header p { margin: 4px 0 0; color: #5f6368 }
    section { position: absolute; background: #fff; border: 1px solid #dadce0; border-radius: 4px; box-sizing: border-box; overflow: hidden }
    h2 { font-size: 12px; font-weight: 500; margin: 8px 12px 2px; color: #202124; white-space: nowrap }
    svg { display: block } svg text { font-size: 10px; fill: #5f6368 }
    .legend { margin: 0 12px; height: 14px; overflow: hidden; white-space: nowrap } .legend i { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin: 0 4px 0 0 } .legend span { margin-right: 12px }
    .legend .absent { color: #9aa0a6 }
    .score { font-size: 30px; margin: 8px 12px; color: #202124 } .score.YELLOW { color: #b06000 } .score.RED { color: #c5221f }
    table { border-collapse: collapse; margin: 4px 12px; font-size: 11px } td { padding: 2px 10px 2px 0; white-space: nowrap; border-bottom: 1px solid #f1f3f4 } .log td { font-family: 'Roboto Mono', 'DejaVu Sans Mono', monospace; font-size: 10px }
    .WARNING { color: #b06000 } .ERROR, .CRITICAL { color: #c5221f }
  </style><header><h1>${escape(dashboard.displayName)}</h1><p>Five hours of a simulated fleet, whose instances push every 60 s; hours and minutes from the left</p></header>${cards.join('')}`
}

function xyChart ({ dataSets, yAxis, y2Axis, thresholds = [] }, { width, height }, { times, evaluate }) {
  const lines = []
  const absent = []
  for (const { timeSeriesQuery: { prometheusQuery, unitOverride = '' }, plotType, targetAxis, legendTemplate } of dataSets) {
    if (prometheusQuery === undefined) {
      absent.push(legendTemplate.replace(/,? *\$\{.*?\}/, ''))
      continue
    }
    const given = { plotType, axis: targetAxis, unit: unitOverride }
    lines.push(...linesOf(prometheusQuery, times, evaluate).map(line => ({ ...line, name: legendTemplate ?? line.name, ...given })))
  }
  lines.forEach((line, i) => { line.colour = COLOURS[i % COLOURS.length] })
  stack(lines)
  const box = { left: 58, right: width - (y2Axis ? 50 : 14), top: 20, bottom: height - 64 }
  const x = time => box.left + (time - times[0]) / (times.at(-1) - times[0]) * (box.right - box.left)
  const axes = ['Y1', 'Y2'].map(axis => axisOf(lines.filter(line => line.axis === axis), axis === 'Y1' ? thresholds : [], box))
  const drawn = lines.map(line => draw(line, x, axes[line.axis === 'Y2' ? 1 : 0].y, times)).join('')
  const [y1, y2] = axes
  return `<svg width="${width}" height="${height - 44}">
    ${y1.ticks.map(tick => `<line x1="${box.left}" x2="${box.right}" y1="${y1.y(tick)}" y2="${y1.y(tick)}" stroke="#e8eaed"/><text x="${box.left - 6}" y="${y1.y(tick) + 3}" text-anchor="end">${format(tick, y1.unit)}</text>`).join('')}
    ${y2Axis ? y2.ticks.map(tick => `<text x="${box.right + 6}" y="${y2.y(tick) + 3}">${format(tick, y2.unit)}</text>`).join('') : ''}
    ${timeTicks(times).map(time => `<text x="${x(time)}" y="${box.bottom + 14}" text-anchor="middle">${clock(time - times[0])}</text>`).join('')}
    <text x="8" y="11">${escape(yAxis.label ?? '')}</text>${y2Axis ? `<text x="${width - 10}" y="11" text-anchor="end">${escape(y2Axis.label)}</text>` : ''}
    ${drawn}
    ${thresholds.filter(({ value }) => value <= y1.top).map(({ label, value }) => `<line x1="${box.left}" x2="${box.right}" y1="${y1.y(value)}" y2="${y1.y(value)}" stroke="#c5221f" stroke-dasharray="4 3"/><text x="${box.right}" y="${y1.y(value) + (value === y1.top ? 11 : -3)}" text-anchor="end">${escape(label)}</text>`).join('')}
  </svg><div class="legend">${lines.map(({ name, colour }) => `<span><i style="background:${colour}"></i>${escape(name)}</span>`).join('')}${absent.map(name => `<span class="absent">${escape(name)} (not in this run)</span>`).join('')}</div>`
}

/** One line per label set: its value at each time, undefined where there is none. */
function linesOf (query, times, evaluate) {
  const lines = new Map()
  times.forEach((time, i) => {
    for (const { labels, value } of evaluate(query, time)) {
      const name = Object.values(labels).join(', ')
      if (!lines.has(name)) lines.set(name, { name, values: [] })
      lines.get(name).values[i] = Number.isFinite(value) ? value : undefined
    }
  })
  return Array.from(lines.values()).sort((a, b) => a.name < b.name ? -1 : 1)
}

/** What is stacked lies on what came before, per axis and kind. */
function stack (lines) {
  for (const line of lines) line.base = []
  const groups = Map.groupBy?.(lines, groupOf) ??
    new Map([...new Set(lines.map(groupOf))].map(group => [group, lines.filter(line => groupOf(line) === group)]))
  for (const [group, members] of groups) {
    if (!group.startsWith('STACKED')) continue
    const height = []
    for (const line of members) {
      for (let i = 0; i < line.values.length; i++) {
        line.base[i] = height[i] ?? 0
        height[i] = line.base[i] + (line.values[i] ?? 0)
      }
    }
  }
}

const groupOf = ({ plotType, axis }) => `${plotType} ${axis}`

function axisOf (lines, thresholds, { top, bottom }) {
  const highest = Math.max(0, ...lines.flatMap(({ values, base }) => values.map((value, i) => (value ?? 0) + (base[i] ?? 0))))
  const wanted = Math.max(highest, ...thresholds.filter(({ value }) => value < highest * 4).map(({ value }) => value)) || 1
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * 10 ** Math.floor(Math.log10(wanted / 4))).find(step => step * 4 >= wanted)
  const ticks = Array.from({ length: Math.ceil(wanted / step - 1e-9) + 1 }, (_, i) => i * step)
  const upper = ticks.at(-1)
  return { ticks, top: upper, unit: lines[0]?.unit ?? '', y: value => bottom - Math.min(value, upper) / upper * (bottom - top) }
}

function draw ({ values, base, plotType, colour }, x, y, times) {
  if (plotType === 'STACKED_BAR') {
    const width = Math.max(1, x(times[1]) - x(times[0]) - 0.6)
    return values.map((value, i) => value > 0 ? `<rect x="${(x(times[i]) - width / 2).toFixed(1)}" y="${y(base[i] + value).toFixed(1)}" width="${width.toFixed(1)}" height="${(y(base[i]) - y(base[i] + value)).toFixed(1)}" fill="${colour}"/>` : '').join('')
  }
  const point = i => `${x(times[i]).toFixed(1)},${y((base[i] ?? 0) + values[i]).toFixed(1)}`
  return runs(values).map(indices => {
    const path = `M${indices.map(point).join('L')}`
    if (plotType === 'LINE') return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.6" stroke-linejoin="round"/>`
    const back = indices.toReversed?.() ?? [...indices].reverse()
    return `<path d="${path}L${back.map(i => `${x(times[i]).toFixed(1)},${y(base[i]).toFixed(1)}`).join('L')}Z" fill="${colour}" fill-opacity="0.75"/>`
  }).join('')
}

/** Indices of values that are there, in unbroken rows. */
function runs (values) {
  const found = []
  for (let i = 0; i < values.length; i++) {
    if (values[i] === undefined) continue
    if (values[i - 1] === undefined) found.push([])
    found.at(-1).push(i)
  }
  return found
}

function scorecard ({ timeSeriesQuery: { prometheusQuery, unitOverride = '' }, gaugeView, thresholds = [] }, { width }, { times, evaluate }) {
  const values = linesOf(prometheusQuery, times, evaluate)[0]?.values ?? []
  const value = values.at(-1)
  const state = ['RED', 'YELLOW'].find(colour => thresholds.some(({ color, direction, value: limit }) => color === colour && (direction === 'ABOVE' ? value >= limit : value <= limit)))
  const highest = gaugeView?.upperBound ?? Math.max(1, ...values.filter(value => value !== undefined))
  const [w, h] = [width - 150, 56]
  const y = value => h - 2 - value / highest * (h - 6)
  const spark = runs(values).map(indices => `<path d="M${indices.map(i => `${(i / (times.length - 1) * w).toFixed(1)},${y(values[i]).toFixed(1)}`).join('L')}" fill="none" stroke="${COLOURS[0]}" stroke-width="1.5"/>`).join('')
  return `<div style="display:flex"><div class="score ${state ?? ''}" style="width:108px">${value === undefined ? 'no data' : format(unitOverride.startsWith('{') ? Math.round(value) : value, unitOverride)}</div><svg width="${w}" height="${h}">${spark}</svg></div>`
}

function logsPanel ({ filter }, { height }, { times, entries }) {
  const unwanted = new RegExp(/-jsonPayload\.event=~"(.*)"/.exec(filter)[1])
  const rows = entries.filter(({ event }) => event !== undefined && !unwanted.test(event)).sort((a, b) => a.time - b.time)
  // Of those that repeat only some, so that all kinds are seen.
  const shown = rows
    .filter(({ event }, i) => rows.slice(0, i).filter(row => row.event === event).length < 3)
    .slice(-Math.floor((height - 40) / 18))
  return `<table class="log">${shown.map(({ time, severity, instance, event, message }) => {
    return `<tr><td>${clock(time - times[0])}</td><td class="${severity}">${severity}</td><td>${instance}</td><td>${event}</td><td>${escape(message.slice(0, 110))}</td></tr>`
  }).join('')}</table>`
}

function incidentList (_, size, { times, incidents }) {
  return `<table>${incidents.map(({ name, severity, since, until }) => `<tr><td class="${severity}">${severity}</td><td>${escape(name)}</td><td>${clock(since - times[0])} to ${clock(until - times[0])}</td></tr>`).join('')}</table>`
}

function timeTicks (times) {
  return times.filter((time, i) => i % 20 === 0)
}

function clock (ms) {
  const minutes = Math.max(0, Math.round(ms / 60_000))
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}`
}

function format (value, unit) {
  const short = number => Number(number.toPrecision(3)).toLocaleString('en-US')
  if (unit === '10^2.%') return `${short(value * 100)}%`
  if (unit === 's') return value === 0 ? '0' : value < 0.001 ? `${short(value * 1e6)}µs` : value < 1 ? `${short(value * 1_000)}ms` : `${short(value)}s`
  const suffix = unit === '1/s' ? '/s' : unit.startsWith('By') ? unit.replace('By', 'B') : ''
  const [divisor, prefix] = value >= 1e6 ? [1e6, 'M'] : value >= 1e3 ? [1e3, 'k'] : [1, '']
  return unit.startsWith('By') ? `${short(value / divisor)}${prefix}${suffix}` : `${short(value)}${suffix}`
}

function escape (text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
