import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import type { Test } from 'tap'
import { freePort } from '../helpers/free-port.ts'

const root = resolve(import.meta.dirname, '../..')
t.setTimeout(300_000)

// A checkout of the test's own: `npm start` builds.
const folder = await mkdtemp(join(tmpdir(), 'start-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
await Promise.all(['package.json', 'index.ts', 'publisher.ts', 'testing.ts', 'types.ts', 'cli.ts', 'lib', 'scripts', 'example'].map(name => cp(join(root, name), join(folder, name), { recursive: true })))
await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))

t.test('a second npm start leaves the first one what it has built', async (t) => {
  const first = npmStart(t, await freePort())
  await first.listening
  const built = await readdir(join(folder, 'dist'))
  const second = npmStart(t, await freePort())
  await second.listening
  t.strictSame(await readdir(join(folder, 'dist')), built)
  for (const { url } of [first, second]) t.equal((await fetch(`${url}/health`)).status, 200)
})

t.test('a port that is in use is named, with the command that takes another one', async (t) => {
  const server = createServer()
  await once(server.listen(0, '0.0.0.0'), 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const { ended, lines } = npmStart(t, port)
  t.equal(await ended, 1)
  t.match(lines, new Set([`Port ${port} is in use. Choose another one: PORT=${port + 1} npm start`]))
  t.equal(lines.size > 0 && Array.from(lines).some(line => line.includes('    at ')), false, 'no stack')
})

function npmStart (t: Test, port: number) {
  const lines = new Set<string>()
  // A process group of its own, so that all of it can be ended.
  const child = spawn('npm', ['start'], { cwd: folder, env: { PATH: process.env.PATH, PORT: String(port) }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const closed = once(child, 'close')
  const ended = closed.then(([code]) => code as number)
  const listening = new Promise<void>((resolve, reject) => {
    ended.then(code => reject(new Error(`npm start ended with ${code}:\n${Array.from(lines).join('\n')}`)), reject)
    for (const output of [child.stdout, child.stderr]) {
      createInterface(output).on('line', line => {
        lines.add(line)
        if (line.includes('Server listening')) resolve()
      })
    }
  })
  listening.catch(() => {}) // only who waits for it wants to know
  t.teardown(async () => {
    if (child.exitCode !== null) return
    process.kill(-child.pid!, 'SIGTERM')
    await closed
  })
  return { url: `http://localhost:${port}`, listening, ended, lines }
}
