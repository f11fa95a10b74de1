import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'

const root = join(import.meta.dirname, '../..')

/** The code of a block of a page, by what its info string says after `run=`. */
function block (page: string, name: string): string {
  const [, code] = new RegExp(`^\`\`\`[jt]s run=${name}\\n(.*?)^\`\`\`$`, 'ms').exec(readFileSync(join(root, page), 'utf8')) ?? []
  if (code === undefined) throw new Error(`${page} has no block with run=${name}`)
  return code.replace(/from 'fastify-cloud-run-websocket(\/testing)?'/g, (_whole, testing) => {
    return `from '${pathToFileURL(join(root, testing === undefined ? 'index.ts' : 'testing.ts'))}'`
  })
}

/** Runs a test of the page by node:test, with the app of the page. Rejects if it fails. */
async function passes (t: Test, code: string): Promise<void> {
  const app = block('docs/testing.md', 'testing-app')
  const folder = t.testdir({ 'app.ts': app, 'page.test.ts': `import { build } from './app.ts'\nvoid build\n${code}` })
  const args = [`--import=${import.meta.resolve('tsx')}`, '--test', join(folder, 'page.test.ts')]
  // REDIS_URL leads nowhere: an app that takes it would not be ready.
  const { NODE_OPTIONS: _ofThisProcess, ...env } = process.env
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder, env: { ...env, REDIS_URL: 'redis://127.0.0.1:1' }, timeout: 60_000 })
  t.match(stdout, /^(?:#|ℹ) pass 1$/m)
}

t.test('a client gets what others send', t => passes(t, block('docs/testing.md', 'testing-client')))
t.test('two apps are two instances', t => passes(t, block('docs/testing.md', 'testing-instances')))
t.test('an SDK client connects without a port', t => passes(t, block('docs/testing.md', 'testing-sdk')))
t.test('57 minutes pass at once', t => passes(t, block('docs/testing.md', 'testing-time')))
t.test('a handler is tested alone', t => passes(t, block('docs/testing.md', 'testing-handler')))
