import { randomUUID } from 'node:crypto'
import { checkFields } from '../model/arguments.ts'
import type { Connection, ProtocolName, SubscribeResult, TransportName } from '../model/connection.ts'

/** A connection for tests of a handler alone: no socket, no app. */
export interface FakeConnection extends Connection {
  /** What `send` was called with, in order. */
  readonly sent: readonly unknown[]
  /** What `request` was called with, in order. It resolves to undefined: `overrides` gives other answers. */
  readonly requests: ReadonlyArray<{ readonly method: string, readonly data: unknown }>
  /** What `close` was called with; undefined before. */
  readonly closedWith: { readonly code: number | undefined, readonly reason: string | undefined } | undefined
}

/** Returns a connection that writes down what a handler does with it. `overrides` takes the place of anything. */
export function fakeConnection (overrides: Partial<Connection> = {}): FakeConnection {
  const connection = new WrittenDownConnection()
  checkFields('overrides of fakeConnection', overrides, Object.keys(connection).concat('send', 'subscribe', 'unsubscribe', 'request', 'close'))
  return Object.assign(connection, overrides, { channels: new Set(overrides.channels) })
}

class WrittenDownConnection implements FakeConnection {
  readonly id: string = randomUUID()
  readonly user: string = ''
  readonly info: unknown = undefined
  meta: unknown = undefined
  readonly protocol: ProtocolName = 'plain'
  readonly transport: TransportName = 'websocket'
  readonly connectedAt: number = Date.now()
  readonly channels = new Set<string>()
  open = true
  readonly sent: unknown[] = []
  readonly requests: Array<{ method: string, data: unknown }> = []
  closedWith: FakeConnection['closedWith']

  send (data: unknown): boolean {
    if (this.open) this.sent.push(data)
    return this.open
  }

  async subscribe (channel: string): Promise<SubscribeResult> {
    this.channels.add(channel)
    return {}
  }

  async unsubscribe (channel: string): Promise<void> {
    this.channels.delete(channel)
  }

  async request (method: string, data?: unknown): Promise<unknown> {
    this.requests.push({ method, data })
    return undefined
  }

  close (code?: number, reason?: string): void {
    this.open = false
    this.closedWith ??= { code, reason }
  }
}
