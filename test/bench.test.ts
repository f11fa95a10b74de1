import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { buildPackage } from './helpers/built-package.ts'

/** ms: it starts 15 processes. */
const TIMEOUT = 300_000
// Without tap's own options, which would have every process read its loaders.
const { NODE_OPTIONS: _, ...env } = process.env
const run = (program: string, args: string[]) => promisify(execFile)(program, args, { env })

t.setTimeout(TIMEOUT)

t.test('the benchmark measures this plugin and its peers in one run', { timeout: TIMEOUT }, async t => {
  // A build of its own: what is in dist may be old, or be replaced meanwhile.
  const build = join(t.testdir(), 'build')
  await buildPackage(build)
  const { stdout } = await run(process.execPath, ['bench/run.mjs', '--quick', '--peers', 'fastify-websocket,socket-io,plugin-history', '--plugin', join(build, 'dist/index.js')])
  const rows = stdout.trim().split('\n').slice(2)
  t.equal(rows.length, 6)
  for (const server of ['`@fastify/websocket` by hand', 'Socket.IO + Redis adapter', 'this plugin, with history']) {
    const [fanOut, idle] = rows.filter(row => row.startsWith(`| ${server}`))
    t.match(fanOut, /\| 50\/s \| [\d.]+ \| 1,000 of 1,000 \| 0 \|/)
    t.match(idle, /\| 100 idle \|.*\| -?[\d.]+ \(-?[\d.]+\) \|$/)
  }
})
