import { readFileSync } from 'node:fs'
import t from 'tap'
import { scale, spread, ticks } from '../../lib/cli/plan/axis.ts'
import { drawPlan } from '../../lib/cli/plan/chart.ts'
import { Prices } from '../../lib/cli/plan/prices.ts'
import { element, label } from '../../lib/cli/plan/svg.ts'
import { planOf } from '../helpers/plan.ts'
import { docsCommands } from '../helpers/planning-page.ts'

const draw = (args: string) => {
  const made = planOf(args)
  return drawPlan(made, new Prices(made.prices.region))
}
const texts = (svg: string) => Array.from(svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g), ([, text]) => text!)

t.test('the chart says what it shows, in which unit, of which prices', async (t) => {
  const shown = texts(draw('--connections 20000'))
  for (const text of [
    'Cost by connections', 'connections open at the peak', 'US dollars a month', 'Parts of the cost at 20,000 connections', 'this plan', '250,000',
    "Google's list prices for us-central1 as public pages had them from 2025-03-06 to 2026-09-23 (prices.json); open all month."
  ]) t.ok(shown.includes(text), text)
})

t.test('each platform has a line, and its parts have a bar', async (t) => {
  const svg = draw('--connections 20000')
  t.equal(svg.match(/<polyline /g)!.length, 4)
  const shown = texts(svg)
  for (const name of ['Cloud Run', 'GKE', 'GKE on Spot', 'App Engine flexible']) t.equal(shown.filter(text => text === name).length, 2, name)
  t.equal(shown.filter(text => text === 'GKE Autopilot').length, 1)
  t.ok(shown.includes('egress') && !shown.includes('free tier'))
})

t.test('it is read on light and on dark pages', async (t) => {
  const svg = draw('')
  t.match(svg, /--page: #fff/)
  t.match(svg, /prefers-color-scheme: dark/)
})

t.test('each line, and each part of the bars, has a colour of its own', async (t) => {
  const svg = draw('--connections 20000')
  const values = (css: string) => Object.fromEntries(Array.from(css.matchAll(/--(\w+): (#\w+)/g), ([, name, value]) => [name, value]))
  const [light, dark] = svg.split('@media').map(values)
  const used = [
    ...Array.from(svg.matchAll(/<polyline [^>]*stroke="var\(--(\w+)\)"/g), ([, name]) => name!),
    ...Array.from(svg.matchAll(/<rect [^>]*width="12" height="12" fill="var\(--(\w+)\)"/g), ([, name]) => name!)
  ]
  t.equal(used.length, 4 + 7)
  for (const colours of [light!, dark!]) t.equal(new Set(used.map(name => colours[name])).size, used.length)
})

t.test('more connections than the axis has make it longer, and what is unknown is named', async (t) => {
  const shown = texts(draw('--connections 400000 --region asia-northeast1'))
  t.ok(shown.includes('400,000'))
  t.ok(shown.some(text => text.startsWith('Without Redis, egress, load balancer, instances: the price is unknown')))
  const svg = drawPlan(planOf('', { prices: { logGib: 1 } }), new Prices('us-central1', { prices: { logGib: 1 } }))
  t.ok(texts(svg).some(text => text.includes('(prices.json), 1 of them replaced; ')))
  t.ok(texts(draw('--average 50%')).some(text => text.endsWith('5,000 open on average.')))
})

t.test('axes have round steps, and end above the greatest value', async (t) => {
  t.strictSame(ticks(10), [0, 2, 4, 6, 8, 10])
  t.strictSame(ticks(12_400), [0, 2_500, 5_000, 7_500, 10_000, 12_500])
  t.strictSame(ticks(7), [0, 2, 4, 6, 8])
  t.strictSame(ticks(48), [0, 10, 20, 30, 40, 50])
  t.equal(scale(10, 100, 200)(5), 150)
})

t.test('labels keep apart', async (t) => {
  t.strictSame(spread([100, 90, 20], 18, 300), [100, 82, 20])
  t.strictSame(spread([20, 310], 18, 300), [20, 300])
})

t.test('text is escaped', async (t) => {
  t.equal(label(1, 2, 'a < b & "c"'), '<text x="1" y="2">a &lt; b &amp; &quot;c&quot;</text>')
  t.equal(element('g', { 'aria-label': '>' }), '<g aria-label="&gt;"/>')
})

t.test('the picture in docs/planning.md is what its command draws', async (t) => {
  const [command] = docsCommands().filter(({ args }) => args.includes('--svg'))
  t.ok(command)
  const args = command!.args.replace(/ --svg \S+/, '')
  t.equal(draw(args), readFileSync(new URL('../../docs/images/plan.svg', import.meta.url), 'utf8'), `npx fastify-cloud-run-websocket plan ${args} --svg docs/images/plan.svg`)
})
