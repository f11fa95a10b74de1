import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { WebSocketServer } from 'ws'
import type { WebSocket } from 'ws'
import type { Terminal } from '../../lib/cli/command.ts'
import { load } from '../../lib/cli/load/command.ts'
import type { Report } from '../../lib/cli/load/report.ts'

/** A terminal that keeps what is written to it. */
export function fakeTerminal (isTTY = false): Terminal & { written: { stdout: string, stderr: string } } {
  const written = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof written) => ({ isTTY, write (text: string) { written[name] += text } })
  return { written, stdout: stream('stdout'), stderr: stream('stderr') }
}

export interface LoadResult {
  code: number
  report: Report
}

/** Runs a load test that is short unless `args` say otherwise. */
export async function runLoad (url: string, ...args: string[]): Promise<LoadResult> {
  const terminal = fakeTerminal()
  const short = ['--connections', '4', '--ramp', '1ms', '--duration', '1s', '--channels', '2', '--publish', '50']
  const code = await load(['--url', url, '--json', ...short, ...args], terminal)
  return { code, report: JSON.parse(terminal.written.stdout) }
}

/** What a client has sent: one command of the SDKs' protocol. */
export interface SentCommand {
  id?: number
  connect?: { token?: string }
  subscribe?: { channel: string, recover?: boolean, offset?: number, epoch?: string }
  publish?: { channel: string, data: unknown }
}

export type Answer = (command: SentCommand, socket: WebSocket, connection: number) => unknown

/**
 * A server that does what no server should: `answer` returns the reply to a command, several, or none. `connection`
 * counts the connections from 0. Returns its address.
 */
export async function startScripted (t: Test, answer: Answer): Promise<string> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  t.teardown(() => {
    for (const socket of server.clients) socket.terminate()
    server.close()
  })
  let connections = 0
  server.on('connection', (socket: WebSocket, _request: IncomingMessage) => {
    const connection = connections++
    socket.on('message', (message: Buffer) => {
      for (const line of message.toString().split('\n')) {
        const answers = [answer(JSON.parse(line), socket, connection)].flat().filter(one => one !== undefined)
        if (answers.length > 0) socket.send(answers.map(one => typeof one === 'string' ? one : JSON.stringify(one)).join('\n'))
      }
    })
  })
  await once(server, 'listening')
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
}
