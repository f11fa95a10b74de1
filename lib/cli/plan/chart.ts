import { scale, spread, ticks } from './axis.ts'
import { count, dollars } from './format.ts'
import { costCurves } from './plan.ts'
import type { Curve, Plan } from './plan.ts'
import type { Platform, PlatformId } from './platforms.ts'
import type { Prices } from './prices.ts'
import { partNames } from './report.ts'
import { element, label, line, style } from './svg.ts'

const WIDTH = 920
const HEIGHT = 830
const LEFT = 150
const RIGHT = 740
const MOST_CONNECTIONS = 250_000
/** Shares of the greatest number of connections. */
const POINTS = [0.004, 0.02, 0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1]
/** Where the guide's three stages meet. */
const STAGES = [10_000, 50_000]

const lineColours: Partial<Record<PlatformId, string>> = { 'cloud-run': 'blue', gke: 'green', 'gke-spot': 'teal', 'app-engine': 'orange' }
const DASHED: PlatformId = 'gke-spot'
/** None of those of the lines: one colour means one thing. */
const partColours = ['purple', 'grey', 'gold', 'red', 'olive', 'pink', 'brown', 'slate']

/** Two charts, one above the other: cost by connections, and the parts of the cost. */
export function drawPlan (plan: Plan, prices: Prices): string {
  const most = Math.max(MOST_CONNECTIONS, plan.input.connections)
  const curves = costCurves(plan.input, prices, POINTS.map(share => Math.round(share * most)))
  const title = `Monthly cost of ${count(plan.input.connections)} WebSocket connections on Google Cloud`
  return element('svg', { xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': title }, [
    '',
    style,
    element('title', {}, title),
    element('rect', { width: WIDTH, height: HEIGHT, fill: 'var(--page)' }),
    ...drawCurves(plan, curves.filter(({ platform }) => lineColours[platform.id] !== undefined), most),
    ...drawBars(plan),
    ...caption(plan),
    ''
  ].join('\n')) + '\n'
}

const grid = { stroke: 'var(--grid)', 'stroke-width': 1 }

function drawCurves ({ input }: Plan, curves: readonly Curve[], most: number): string[] {
  const [top, bottom] = [64, 380]
  const dollarTicks = ticks(Math.max(...curves.flatMap(({ points }) => points.map(({ month }) => month))))
  const x = scale(most, LEFT, RIGHT)
  const y = scale(dollarTicks.at(-1)!, bottom, top)
  const ends = spread(curves.map(({ points }) => y(points.at(-1)!.month)), 18, bottom)
  return [
    label(24, 34, 'Cost by connections', { class: 'title' }),
    ...dollarTicks.flatMap(tick => [line(LEFT, y(tick), RIGHT, y(tick), grid), label(LEFT - 8, y(tick) + 4, dollars(tick), { class: 'end quiet' })]),
    ...ticks(most).filter(tick => tick <= most).map(tick => label(x(tick), bottom + 20, count(tick), { class: 'middle quiet' })),
    label((LEFT + RIGHT) / 2, bottom + 42, 'connections open at the peak', { class: 'middle' }),
    label(44, (top + bottom) / 2, 'US dollars a month', { class: 'middle', transform: `rotate(-90 44 ${(top + bottom) / 2})` }),
    ...STAGES.map(stage => line(x(stage), top, x(stage), bottom, { ...grid, stroke: 'var(--quiet)', 'stroke-dasharray': '2 4' })),
    line(x(input.connections), top, x(input.connections), bottom, { ...grid, stroke: 'var(--ink)' }),
    label(x(input.connections) + 6, top - 6, 'this plan', { class: 'quiet', ...x(input.connections) > RIGHT - 60 && { class: 'end quiet' } }),
    ...curves.flatMap(({ platform: { id, name }, points }, i) => {
      const colour = `var(--${lineColours[id]!})`
      const path = points.map(({ connections, month }) => `${x(connections)},${y(month)}`).join(' ')
      const dash = id === DASHED ? { 'stroke-dasharray': '7 4' } : {}
      return [
        element('polyline', { points: path, fill: 'none', stroke: colour, 'stroke-width': 2.5, ...dash }),
        label(RIGHT + 10, ends[i]! + 4, name, { style: `fill: ${colour}; font-weight: 600` })
      ]
    })
  ]
}

interface Segment { name: string, month: number }

/** The free tier is part of what instances cost. */
function segments ({ parts }: Platform, names: readonly string[]): Segment[] {
  const amount = (name: string) => parts.find(part => part.name === name)?.month ?? 0
  return names.map(name => ({ name, month: Math.max(0, amount(name) + (name === 'instances' ? amount('free tier') : 0)) }))
}

function drawBars ({ platforms, input }: Plan): string[] {
  const [top, row, bar] = [496, 40, 24]
  const bottom = top + row * platforms.length
  const names = partNames(platforms).filter(name => name !== 'free tier')
  const dollarTicks = ticks(Math.max(...platforms.map(({ month }) => month)))
  const x = scale(dollarTicks.at(-1)!, LEFT, RIGHT)
  const colourOf = (name: string) => `var(--${partColours[names.indexOf(name) % partColours.length]!})`
  return [
    label(24, top - 28, `Parts of the cost at ${count(input.connections)} connections`, { class: 'title' }),
    ...dollarTicks.flatMap(tick => [
      line(x(tick), top - 6, x(tick), bottom, grid), label(x(tick), bottom + 18, dollars(tick), { class: 'middle quiet' })
    ]),
    label((LEFT + RIGHT) / 2, bottom + 40, 'US dollars a month', { class: 'middle' }),
    ...platforms.flatMap((platform, i) => {
      const y = top + i * row
      let start = 0
      const rects = segments(platform, names).filter(({ month }) => month > 0).map(({ name, month }) => {
        const [from, to] = [x(start), x(start += month)]
        return element('rect', { x: from, y, width: Number((to - from).toFixed(1)), height: bar, fill: colourOf(name), stroke: 'var(--page)' },
          element('title', {}, `${name}: ${dollars(month)}`))
      })
      const total = `${platform.unknown.length > 0 ? '> ' : ''}${dollars(platform.month)}`
      return [label(LEFT - 8, y + 17, platform.name, { class: 'end' }), ...rects, label(x(start) + 8, y + 17, total, { class: 'quiet' })]
    }),
    ...names.flatMap((name, i) => [
      element('rect', { x: RIGHT + 60, y: top + i * 22, width: 12, height: 12, fill: colourOf(name) }),
      label(RIGHT + 78, top + 11 + i * 22, name)
    ])
  ]
}

function caption ({ prices: { region, first, last, overridden }, platforms, input }: Plan): string[] {
  const unknown = [...new Set(platforms.flatMap(platform => platform.unknown))]
  const mean = input.average === input.connections ? 'open all month' : `${count(input.average)} open on average`
  const lines = [
    `Google's list prices for ${region} as public pages had them from ${first} to ${last} (prices.json)${overridden.length > 0 ? `, ${overridden.length} of them replaced` : ''}; ${mean}.`,
    unknown.length > 0 ? `Without ${unknown.join(', ')}: the price is unknown in this region.` : 'Dotted: 10,000 and 50,000 connections, where the stages of the migration path meet.'
  ]
  return lines.map((text, i) => label(24, HEIGHT - 36 + i * 19, text, { class: 'quiet' }))
}
