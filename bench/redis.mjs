import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** A redis-server of the benchmark's own, on loopback, without persistence. */
export async function startRedis () {
  const dir = mkdtempSync(join(tmpdir(), 'bench-redis-'))
  const port = await freePort()
  const server = spawn(process.env.REDIS_SERVER || 'redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const clear = () => {
    server.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
  process.once('exit', clear)
  const exited = once(server, 'exit')
  await Promise.race([isReady(server.stdout), exited.then(() => { throw new Error('redis-server did not start') })])
  return {
    url: `redis://127.0.0.1:${port}`,
    pid: server.pid,
    async stop () {
      process.off('exit', clear)
      clear()
      await exited
    }
  }
}

async function isReady (output) {
  for await (const line of createInterface({ input: output })) {
    if (line.includes('Ready to accept connections')) break
  }
  output.resume() // what it says later must not fill the pipe
}

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
