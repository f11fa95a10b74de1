import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { block, withoutCoverage, withSources } from '../helpers/docs.ts'

/** Runs a test of the page by node:test, with the app of the page. Rejects if it fails. */
async function passes (t: Test, code: string): Promise<void> {
  const app = withSources(block('docs/testing.md', 'testing-app'))
  const folder = t.testdir({ 'app.ts': app, 'page.test.ts': `import { build } from './app.ts'\nvoid build\n${withSources(code)}` })
  const args = [`--import=${import.meta.resolve('tsx')}`, '--test', join(folder, 'page.test.ts')]
  // REDIS_URL leads nowhere: an app that takes it would not be ready.
  const { NODE_OPTIONS: _ofThisProcess, ...env } = process.env
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder, env: { ...env, ...withoutCoverage, REDIS_URL: 'redis://127.0.0.1:1' }, timeout: 60_000 })
  t.match(stdout, /^(?:#|ℹ) pass 1$/m)
}

t.test('a client gets what others send', t => passes(t, block('docs/testing.md', 'testing-client')))
t.test('two apps are two instances', t => passes(t, block('docs/testing.md', 'testing-instances')))
t.test('an SDK client connects without a port', t => passes(t, block('docs/testing.md', 'testing-sdk')))
t.test('57 minutes pass at once', t => passes(t, block('docs/testing.md', 'testing-time')))
t.test('a handler is tested alone', t => passes(t, block('docs/testing.md', 'testing-handler')))
