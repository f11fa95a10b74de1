import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'

export interface ServerSettings {
  options?: Options
  /** Apps in the process, each at a port of its own. */
  apps?: number
  hang?: 'onDisconnect' | 'onClose'
  fail?: boolean
  listen?: boolean
  env?: Record<string, string>
}

export interface ServerProcess {
  child: ChildProcess
  /** ws://127.0.0.1:port of each app. */
  urls: string[]
  /** What was logged, parsed. */
  log: Array<Record<string, unknown>>
  exited: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
}

/** A real process with a real app, run from the TypeScript sources with this process's own loaders. */
export async function startServer (t: Test, settings: ServerSettings = {}): Promise<ServerProcess> {
  const child = fork(fileURLToPath(new URL('../fixtures/server.ts', import.meta.url)), {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...process.env, ...settings.env, SERVER_SETTINGS: JSON.stringify(settings) }
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log: Array<Record<string, unknown>> = []
  let rest = ''
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    log.push(...lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line)))
  })
  let errors = ''
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => { errors += chunk })
  const exited = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  const [message] = await Promise.race([once(child, 'message'), exited.then(() => { throw new Error(`the server ended:\n${errors}`) })])
  return { child, urls: message.ports.map((port: number) => `ws://127.0.0.1:${port}`), log, exited }
}
