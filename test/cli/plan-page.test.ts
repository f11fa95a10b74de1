import { readFileSync } from 'node:fs'
import t from 'tap'
import { REQUEST_LOG_BYTES } from '../../lib/cli/plan/assumptions.ts'
import { parseOverride } from '../../lib/cli/plan/prices.ts'
import watching from '../../lib/cli/plan/watching.json' with { type: 'json' }
import { docsCommands } from '../helpers/planning-page.ts'
import { month, planOf, platform, runPlan } from '../helpers/plan.ts'

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
const page = read('docs/planning.md')
const numberOf = (text: string) => Number(text.replaceAll(/[$,]/g, ''))

t.test('the commands print what the page says', async (t) => {
  const commands = docsCommands()
  t.ok(commands.length >= 4)
  for (const { args, output } of commands.filter(({ output }) => output !== undefined)) {
    t.equal((await runPlan(...args.split(' '))).stdout, output, args)
  }
})

t.test('every command of the page is one that the options allow', async (t) => {
  for (const { args } of docsCommands()) t.ok(planOf(args.replaceAll(/ --(svg|prices) \S+/g, '')))
})

t.test('what doubles the bill is what the model says', async (t) => {
  const [example, ...changed] = Array.from(page.matchAll(/^\| `(--[^`]+)` \| ([\d,]+) \| ([\d,]+) \|/gm), ([, args, ...sums]) => ({ args: args!, sums: sums.map(numberOf) }))
  t.ok(changed.length > 8)
  const base = example!.args
  const withOne = (args: string) => args.startsWith('--average') ? base.replace(/--average \S+/, args) : `${base} ${args}`
  for (const { args, sums } of [{ ...example!, args: '' }, ...changed]) {
    const made = planOf(withOne(args))
    t.strictSame(sums, (['cloud-run', 'gke'] as const).map(id => Math.round(platform(made, id).month)), args)
  }
})

t.test('the other figures of the page are those of the model', async (t) => {
  const deployment = (args: string) => `$${platform(planOf(args)).deployment!.toFixed(2)}`
  t.ok(page.includes(`${deployment('--connections 20000 --average 40%')} in the example, ${deployment('--connections 250000')} with 250,000 connections`))
  t.match(platform(planOf('--users 20000 --tabs 10')).instances, { peak: 223 })
  t.match(page, /223 instances instead of\s+23/)
})

t.test('from so many connections on GKE costs less', async (t) => {
  for (const [text, average] of [['about 5,500 connections if they are open all the time', '100%'], ['14,000 at an average of 40%', '40%']] as const) {
    const connections = numberOf(/[\d,]{5,}/.exec(text)![0])
    t.ok(page.replaceAll(/\s+/g, ' ').includes(text), text)
    const savingAt = (count: number) => planOf(`--connections ${count} --average ${average}`).decision.saving!
    t.ok(savingAt(connections) > 0 && savingAt(connections - 500) < 0, text)
  }
  t.match(read('example/cloud-run/README.md'), /from\s+about 5,500 permanent connections/)
})

t.test('App Engine costs about what Cloud Run costs', async (t) => {
  t.match(page, /App Engine flexible\*\* costs about as much as Cloud Run/)
  t.match(read('docs/app-engine.md'), /for about the\s+same price/)
  for (const average of ['100%', '40%']) {
    for (const connections of [5_000, 20_000, 100_000]) {
      const made = planOf(`--connections ${connections} --average ${average}`)
      const share = platform(made, 'app-engine').month / platform(made).month
      t.ok(share > 0.85 && share < 1.15, `${connections} ${average}: ${share}`)
    }
  }
})

t.test('what it costs to watch is of one measurement', async (t) => {
  const { date, numbers, histograms, buckets, samples, entryBytes: { opened, closed, request } } = watching
  t.equal(samples, numbers + 2 * histograms + buckets)
  t.equal(date, '2026-11-29')
  const costs = read('docs/watching-costs.md').replaceAll(/\s+/g, ' ')
  for (const text of [
    '29 November 2026', `${numbers} numbers and ${histograms} histograms`, `which makes ${samples} samples`,
    `\`connection.opened\` | ${opened} |`, `\`connection.closed\` | ${closed} |`, `\`incoming request\` | ${request} |`,
    `${(samples * 730 * 60 / 1e6).toFixed(1)} million samples a month`
  ]) t.ok(costs.includes(text), text)
  const bytes = opened + closed + request + REQUEST_LOG_BYTES
  const month = bytes * 730 * 60 / 54.15
  t.match(read('example/cloud-run/README.md'), `a connection that is always open writes ${(month / 1e6).toFixed(1)} MB a month`)
  t.match(read('example/cloud-run/README.md'), `${(samples * 730 * 60 * 0.06 / 1e6).toFixed(2)} for each instance`)
  t.match(page, `about ${(bytes / 1e3).toFixed(1)} KB`)
  t.match(page, `about ${(Math.floor(50 * 2 ** 30 / month / 500) * 500).toLocaleString('en-US')} connections that are always`)
})

t.test("the guide's instances come out with the prices on the page", async (t) => {
  const [, json = ''] = /```json\n([^]*?)```/.exec(page)!
  const { args } = docsCommands().find(({ args }) => args.includes('--prices'))!
  const made = planOf(args.replace(/ --prices \S+/, ''), parseOverride(json, 'guide.json'))
  t.equal(Math.round(month(made, 'instances')!), 139_284)
})

t.test('every field of the JSON is described', async (t) => {
  const [, json = ''] = page.split('\n## The JSON\n')
  const made = planOf()
  for (const name of [...Object.keys(made), ...Object.keys(made.platforms[0]!), ...Object.keys(made.settings)]) t.ok(json.includes(`${name}\``), name)
})
