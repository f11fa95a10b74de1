import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { buildPackage } from './built-package.ts'

/** ms: each command starts many processes. */
export const BENCH_TIMEOUT = 300_000

/**
 * `plugin` is a build of the test's own, as dist may be old, or be replaced meanwhile. `bench` runs a benchmark with
 * it, quickly. It returns the rows of the tables that are printed, without their headings.
 */
export function benchmarks (t: Test): { plugin: string, bench: (command: string, ...args: string[]) => Promise<string[]> } {
  const build = join(t.testdir(), 'build')
  const plugin = join(build, 'dist/index.js')
  t.setTimeout(BENCH_TIMEOUT)
  t.before(() => buildPackage(build))
  const bench = async (command: string, ...args: string[]) => {
    const node = command === 'soak' ? ['--import=tsx'] : []
    const quick = [`bench/${command}.mjs`, '--quick', '--plugin', plugin]
    const { stdout } = await promisify(execFile)(process.execPath, [...node, ...quick, ...args])
    const lines = stdout.split('\n').filter(line => line !== '')
    return lines.filter((line, i) => !line.startsWith('| ---') && !lines[i + 1]?.startsWith('| ---'))
  }
  return { plugin, bench }
}
