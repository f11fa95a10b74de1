import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { delimiter, dirname } from 'node:path'
import type { Test } from 'tap'
import { lastStage, unpackContainer } from './container.ts'
import { freePort } from './free-port.ts'
import { until } from './until.ts'

export interface ExampleServer {
  port: number
  /** What it has written to stdout, parsed. */
  log: Array<Record<string, any>>
  terminate (): void
  /** Code and signal of its end. */
  exited: Promise<[number | null, NodeJS.Signals | null]>
}

/** Runs the start command of an example's container on a free port, and waits until it is ready. */
export async function startExample (t: Test, example: string, env: Record<string, string>): Promise<ExampleServer> {
  const [app, collector, port] = await Promise.all([unpackContainer(t, example), startCollector(t), freePort()])
  const [program, ...args] = JSON.parse(lastStage(example).findLast(({ name }) => name === 'CMD')!.value)
  const child = spawn(program, args, {
    cwd: app,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: [dirname(process.execPath), process.env.PATH].join(delimiter),
      NODE_ENV: 'production',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector,
      ...env,
      PORT: String(port)
    }
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log: ExampleServer['log'] = []
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    log.push(...lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line)))
  })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => { errors += chunk })
  let ended = false
  const exited = once(child, 'close').finally(() => { ended = true }) as ExampleServer['exited']
  const isReady = async () => ended || (await fetch(`http://127.0.0.1:${port}/ready`)).status === 200
  await until(isReady, 'the server is ready', 60_000)
  if (ended) throw new Error(`the server ended with ${(await exited)[0]}:\n${errors}`)
  return { port, log, exited, terminate: () => { child.kill('SIGTERM') } }
}

/** Accepts what OpenTelemetry sends, so that nothing goes to Google. Returns its URL. */
export async function startCollector (t: Test): Promise<string> {
  const server = createServer((request, response) => request.resume().once('end', () => response.end()))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
