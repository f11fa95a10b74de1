import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'
import { buildPackage } from './built-package.ts'

export interface ServerSettings {
  options?: Options
  /** Number of apps in the process, each on a port of its own. */
  apps?: number
  hang?: 'onDisconnect' | 'onClose'
  fail?: boolean
  listen?: boolean
  /** Names of handlers that are set, and do nothing. */
  handlers?: Array<keyof Options>
  env?: Record<string, string>
  /** Runs the sources with this process's loaders, so that coverage counts. The start takes seconds of CPU. */
  sources?: boolean
}

export interface ServerProcess {
  child: ChildProcess
  /** ws://127.0.0.1:port of each app. */
  urls: string[]
  /** The log entries, parsed. */
  log: Array<Record<string, unknown>>
  exited: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
}

let build: Promise<string> | undefined

/** Builds the package as users install it, once for the tests of this process. */
async function builtPlugin (): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'built-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  await buildPackage(folder)
  return pathToFileURL(join(folder, 'dist/index.js')).href
}

/** Starts a real process with a real app. */
export async function startServer (t: Test, settings: ServerSettings = {}): Promise<ServerProcess> {
  const plugin = settings.sources ? new URL('../../index.ts', import.meta.url).href : await (build ??= builtPlugin())
  const { NODE_OPTIONS, ...env } = process.env
  const child = fork(fileURLToPath(new URL('../fixtures/server.mjs', import.meta.url)), {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...env,
      ...settings.sources && { NODE_OPTIONS },
      ...settings.env,
      SERVER_SETTINGS: JSON.stringify(settings),
      SERVER_PLUGIN: plugin
    },
    ...!settings.sources && { execArgv: [] }
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
