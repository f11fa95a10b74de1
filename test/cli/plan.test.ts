import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { dollars } from '../../lib/cli/plan/format.ts'
import { usage } from '../../lib/cli/plan/options.ts'
import { priceNames } from '../../lib/cli/plan/prices.ts'
import { run } from '../../lib/cli/run.ts'
import { runPlan } from '../helpers/plan.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('without options it plans ten thousand connections', async (t) => {
  const { code, stdout, stderr } = await runPlan()
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, /^10,000 connections \(all month\) in us-central1; 333 messages\/s of 200 bytes, each to 50 connections\n/)
  for (const part of ['DECISION: Cloud Run', 'CLOUD RUN', 'REDIS', 'COST in US dollars a month', 'MIGRATION PATH', 'WARNINGS']) t.match(stdout, `\n${part}`)
  t.match(stdout, '  example/cloud-run/deploy.sh --project PROJECT \\\n')
})

t.test('the report fits a terminal', async (t) => {
  const { stdout } = await runPlan('--connections', '200000', '--tabs', '4', '--replicas', '0')
  t.strictSame(stdout.split('\n').filter(line => line.length > 104), [])
})

t.test('--help lists every option with its default, and plans nothing', async (t) => {
  const { code, stdout } = await runPlan('--help')
  t.equal(code, 0)
  t.equal(stdout, usage())
  t.match(stdout, /--connections N +connections open at once at the peak \(10000\)/)
  t.match(stdout, /--users N +users at the peak, instead of --connections\n/)
  t.strictSame(stdout.split('\n').filter(line => line.length > 130), [])
})

t.test('--json prints the whole plan: null is what is not known', async (t) => {
  const { stdout } = await runPlan('--json', '--region', 'europe-west1', '--channel-size', 'all', '--messages', '1')
  const made = JSON.parse(stdout)
  t.strictSame(Object.keys(made), ['version', 'input', 'prices', 'model', 'settings', 'platforms', 'decision', 'migration', 'warnings'])
  t.equal(made.version, 1)
  t.equal(made.input.channelSize, 'all')
  t.equal(made.input.perInstance, null)
  t.strictSame(made.platforms.map(({ id }: { id: string }) => id), ['cloud-run', 'gke', 'gke-spot', 'gke-autopilot', 'app-engine'])
  for (const platform of made.platforms) {
    t.strictSame(Object.keys(platform), [
      'id', 'name', 'instances', 'nodes', 'cores', 'memory', 'redis', 'parts', 'month', 'unknown', 'perConnection', 'deployment'
    ])
  }
  t.match(made.platforms[0].parts, [{ name: 'instances' }, { name: 'free tier' }, { name: 'Redis', month: null }])
})

t.test('--svg writes the charts, and says so on stderr', async (t) => {
  const file = join(t.testdir(), 'plan.svg')
  const { code, stdout, stderr } = await runPlan('--svg', file, '--json')
  t.equal(code, 0)
  t.equal(stderr, `wrote ${file}\n`)
  t.equal(typeof JSON.parse(stdout), 'object', 'nothing else is on stdout')
  t.match(readFileSync(file, 'utf8'), /^<svg /)
})

t.test('--prices replaces prices and adds parts', async (t) => {
  const directory = t.testdir({ 'mine.json': JSON.stringify({ prices: { runVcpuSecond: 0 }, fixed: { support: 100 } }) })
  const { stdout } = await runPlan('--prices', join(directory, 'mine.json'))
  t.match(stdout, /\n {2}support +\$100 +\$100 +\$100 +\$100 +\$100\n/)
  t.match(stdout, /Yours:\s+runVcpuSecond\.\n$/)
})

t.test('a free tier of nothing is $0, and not $-0', async (t) => {
  const directory = t.testdir({ 'mine.json': JSON.stringify({ prices: { runFree: 0 } }) })
  const { stdout } = await runPlan('--prices', join(directory, 'mine.json'))
  t.match(stdout, /\n {2}free tier +\$0\n/)
  t.equal(dollars(-0.4), '$0')
})

t.test('a file that cannot be read or written is an error that says so', async (t) => {
  const directory = t.testdir()
  await t.rejects(runPlan('--prices', join(directory, 'none.json')), { message: /^--prices: ENOENT/ })
  await t.rejects(runPlan('--svg', join(directory, 'no/plan.svg')), { message: /^--svg: ENOENT/ })
})

t.test('a file of prices that is not one is refused, with what is allowed', async (t) => {
  const wrong: [string, RegExp][] = [
    ['{', /mine\.json is not JSON: /],
    ['[]', /is not an object\. It has \{ "prices": \{ NAME: dollars \}/],
    ['{"price":{}}', /has an unknown key, price\. It has/],
    ['{"prices":1}', /has prices that is not an object\. It has/],
    ['{"prices":{"runCpu":1}}', new RegExp(`has an unknown price, runCpu\\. The prices are ${priceNames.join(', ')}$`)],
    ['{"prices":{"logGib":"1"}}', /has logGib: "1"\. It has to be a number of dollars, 0 or more/],
    ['{"fixed":{"support":-1}}', /has support: -1\. It has/]
  ]
  for (const [text, message] of wrong) {
    const directory = t.testdir({ 'mine.json': text })
    await t.rejects(runPlan('--prices', join(directory, 'mine.json')), { message })
  }
})

t.test('a wrong argument ends with 2, and one line on stderr that says what is allowed', async (t) => {
  let [out, err] = ['', '']
  const code = await run(['plan', '--vcpu', '3'], { stdout: { write: text => { out += text } }, stderr: { write: text => { err += text } } })
  t.strictSame({ code, out, err }, { code: 2, out: '', err: 'fastify-cloud-run-websocket: --vcpu is "3". Allowed: 1, 2, 4, 6 or 8\n' })
})

t.test('the program plans from another folder', async (t) => {
  const cli = join(root, 'cli.ts')
  const { stdout } = await promisify(execFile)(process.execPath, [`--import=${import.meta.resolve('tsx')}`, cli, 'plan', '--connections', '20000'], { cwd: t.testdir() })
  t.match(stdout, /^20,000 connections/)
})
