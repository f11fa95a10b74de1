import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { buildPackage } from './built-package.ts'

/** ms: each command starts many processes. */
export const BENCH_TIMEOUT = 300_000
// Without tap's NODE_OPTIONS: every process would load tap's loaders.
const { NODE_OPTIONS: _, ...env } = process.env

/**
 * Returns what runs a benchmark, quickly, and returns the rows of the tables that it prints, without their headings.
 * The build is the test's own: dist may be old, or be replaced meanwhile.
 */
export function benchmarks (t: Test): (command: string, ...args: string[]) => Promise<string[]> {
  const build = join(t.testdir(), 'build')
  t.setTimeout(BENCH_TIMEOUT)
  t.before(() => buildPackage(build))
  return async (command, ...args) => {
    const node = command === 'soak' ? ['--import=tsx'] : []
    const quick = [`bench/${command}.mjs`, '--quick', '--plugin', join(build, 'dist/index.js')]
    const { stdout } = await promisify(execFile)(process.execPath, [...node, ...quick, ...args], { env })
    const lines = stdout.split('\n').filter(line => line !== '')
    return lines.filter((line, i) => !line.startsWith('| ---') && !lines[i + 1]?.startsWith('| ---'))
  }
}
