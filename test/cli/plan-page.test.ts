import { readFileSync } from 'node:fs'
import t from 'tap'
import { parseOverride } from '../../lib/cli/plan/prices.ts'
import { docsCommands } from '../helpers/planning-page.ts'
import { month, planOf, platform, runPlan } from '../helpers/plan.ts'

const page = readFileSync(new URL('../../docs/planning.md', import.meta.url), 'utf8')
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
  t.match(page, /takes 223 instances instead of\s+23/)
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
