import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { load } from '../../lib/cli/load/command.ts'
import { table } from '../../lib/cli/load/table.ts'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { fakeTerminal, runLoad } from '../helpers/load.ts'
import { root } from '../helpers/markdown.ts'

const SECRET = 'a secret of more than thirty-two bytes'
const page = readFileSync(join(root, 'docs/load-testing.md'), 'utf8')

async function started (t: Test, app: FastifyInstance): Promise<string> {
  t.teardown(() => app.close())
  return `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

t.test('the server of the page passes a load test, and the page lists what the report has', async (t) => {
  setEnvironment(t, { PORT: '0' })
  const { app } = await importBlock(t, 'docs/load-testing.md', 'load-server', 'app')
  const { code, report } = await runLoad(await started(t, app))
  t.equal(code, 0, JSON.stringify(report))
  const fields = Object.entries(report).flatMap(([name, value]) => {
    return typeof value !== 'object' || Array.isArray(value) ? [name] : Object.keys(value).map(field => `${name}.${field}`)
  })
  const [, section = ''] = page.split('## The report as JSON')
  const documented = Array.from(section.matchAll(/^\| (`.*?) \|/gm), ([, cell = '']) => cell.split(' ')).flat().map(name => name.replaceAll('`', ''))
  t.strictSame(documented.sort(), fields.sort())
  const [, example = ''] = /```text\n([^]*?)```/.exec(page) ?? []
  const labels = (text: string) => Array.from(text.matchAll(/^ {2}(.{23})/gm), ([, label = '']) => label.trim())
  t.strictSame(labels(example), labels(table(report)), 'the example shows what is written now')
})

t.test('the rules of the page let in clients with a token of the load test, and no other', async (t) => {
  setEnvironment(t, { PORT: '0', TOKEN_SECRET: SECRET })
  const { app } = await importBlock(t, 'docs/load-testing.md', 'load-rules', 'app')
  const url = await started(t, app)
  const file = join(t.testdir(), 'token-secret')
  writeFileSync(file, SECRET)
  t.equal((await runLoad(url, '--token-secret-file', file)).code, 0)
  const { report } = await runLoad(url, '--token-secret', SECRET, '--token-claims', '{"sub":"42"}')
  t.strictSame(report.subscriptions.errors, { '103 permission denied': 4 })
})

t.test('commands of the page have options that exist', async (t) => {
  const terminal = fakeTerminal()
  await load(['--help'], terminal)
  const commands = Array.from(page.matchAll(/websocket load ((?:[^\n]*\\\n)*[^\n]*)/g), ([, args = '']) => args)
  const used = new Set(commands.flatMap(args => args.match(/--[\w-]+/g) ?? []))
  t.ok(used.size > 5)
  for (const option of used) t.ok(terminal.written.stdout.includes(`  ${option} `), option)
})
