import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import t from 'tap'
import { run } from '../../lib/cli/run.ts'

/** A terminal that keeps what is written to it. */
function terminal () {
  const written = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof written) => ({ write (text: string) { written[name] += text } })
  return { written, stdout: stream('stdout'), stderr: stream('stderr') }
}

t.test('without a command it says which there are, and fails', async (t) => {
  const one = terminal()
  t.equal(await run([], one), 2)
  t.match(one.written, { stdout: '', stderr: /^Usage: [^]*plan[^]*load/ })
})

t.test('--help goes to stdout', async (t) => {
  const one = terminal()
  t.equal(await run(['--help'], one), 0)
  t.match(one.written, { stdout: /^Usage: /, stderr: '' })
})

t.test('an unknown command is an error that names the known ones', async (t) => {
  for (const name of ['plna', 'toString']) {
    const one = terminal()
    t.equal(await run([name], one), 2)
    t.strictSame(one.written, { stdout: '', stderr: `fastify-cloud-run-websocket: unknown command ${name}. The commands are plan and load\n` })
  }
})

for (const args of [['--help'], ['plan', '--help']]) {
  t.test(`a reader that goes away is no error: ${args.join(' ')}`, async (t) => {
    const child = spawn(process.execPath, ['--import=tsx', 'cli.ts', ...args], { cwd: new URL('../..', import.meta.url), stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.destroy()
    const errors = text(child.stderr)
    t.strictSame(await once(child, 'exit'), [0, null])
    t.equal(await errors, '')
  })
}

t.test('the program runs', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import=tsx', 'cli.ts', '--help'], { cwd: new URL('../..', import.meta.url) })
  t.match(stdout, /^Usage: /)
})
