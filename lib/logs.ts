import type { FastifyBaseLogger } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { End } from './close-codes.ts'
import type { Connection } from './connection.ts'
import type { Rejection } from './metrics.ts'

/** Every entry's `event` and level; a test compares this list with the README's. */
export const logEvents = {
  'connection.opened': 'info',
  'connection.closed': 'info',
  'connection.rejected': 'warn',
  'connection.slow': 'warn',
  'connection.failed': 'error',
  'drain.started': 'info',
  'drain.finished': 'info',
  'bridge.down': 'error',
  'bridge.up': 'info',
  'publications.missed': 'warn',
  'control.failed': 'warn',
  'call.failed': 'warn',
  'telemetry.started': 'info',
  'telemetry.failed': 'warn',
  'telemetry.recovered': 'info'
} as const satisfies Record<string, 'info' | 'warn' | 'error'>

/** What has an entry of its own, or is nobody's fault. */
export const EXPECTED: ReadonlySet<string> = new Set(['FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_NO_ANSWER', 'FST_CRWS_CONNECTION_CLOSED'])

type Event = keyof typeof logEvents

/** The entries this package writes, through the host's logger. What a client causes is a warning at the most. */
export class Logs {
  readonly #log: FastifyBaseLogger | undefined

  constructor (log: FastifyBaseLogger, logging: 'auto' | false) {
    this.#log = logging === false ? undefined : log
  }

  opened ({ id, user, protocol }: Connection, reqId: string): void {
    this.#write('connection.opened', { connection: id, user, protocol, reqId }, 'WebSocket connection opened')
  }

  closed (connection: Connection, { code, reason, cause }: End): void {
    const { id, user, protocol, received, sent, bytesReceived, bytesSent, connectedAt } = connection
    const age = (Date.now() - connectedAt) / 1_000
    this.#write('connection.closed', { connection: id, user, protocol, age, cause, code, reason, received, sent, bytesReceived, bytesSent }, 'WebSocket connection closed')
  }

  /** Without the query, in which clients that can send no headers carry their tokens. */
  rejected (reqId: string | undefined, { url, headers: { origin } }: IncomingMessage, error: Rejection, reason: string): void {
    this.#write('connection.rejected', { error, reqId, path: url?.split('?', 1)[0], origin }, `WebSocket connection rejected: ${reason}`)
  }

  slow ({ id, user, protocol }: Connection, bufferedBytes: number): void {
    this.#write('connection.slow', { connection: id, user, protocol, bufferedBytes }, 'WebSocket client does not read fast enough and is dropped')
  }

  /** The host's code threw: its stack is what helps. */
  failed ({ id, user, protocol }: Connection, err: unknown): void {
    this.#write('connection.failed', { connection: id, user, protocol, err }, `Handler of a WebSocket connection failed: ${(err as Error)?.message}`)
  }

  drainStarted (connections: number, timeout: number): void {
    this.#write('drain.started', { connections, timeout }, 'Closing all WebSocket connections')
  }

  drainFinished (connections: number, terminated: number, duration: number): void {
    this.#write('drain.finished', { connections, terminated, duration }, 'All WebSocket connections are closed')
  }

  bridgeDown (reason: string): void {
    this.#write('bridge.down', { reason }, `Redis is away: ${reason}. Connections stay open, publishing fails`)
  }

  /** ms that it was away; 0 at the start. */
  bridgeUp (away: number): void {
    this.#write('bridge.up', { away }, 'Redis is there')
  }

  missed (channel: string, count: number, reason: string): void {
    this.#write('publications.missed', { channel, count, reason }, `Publications lost: ${reason}`)
  }

  controlFailed (command: string, err: unknown): void {
    this.#write('control.failed', { command, err }, `Command from another instance failed: ${(err as Error)?.message}`)
  }

  /** ms between two exports. */
  telemetryStarted (url: string, interval: number): void {
    this.#write('telemetry.started', { url, interval }, `Metrics are sent to ${url}`)
  }

  telemetryFailed (cause: string, status: number | undefined, text: string): void {
    this.#write('telemetry.failed', { cause, status }, `Metrics do not arrive: ${text}`)
  }

  telemetryRecovered (): void {
    this.#write('telemetry.recovered', {}, 'Metrics arrive again')
  }

  /**
   * A promise that the host forgot to await must not end the process when it rejects: a client could make that happen. What
   * failed because Redis is away or the client is gone has an entry of its own; for the rest this is the only trace.
   */
  watch<T> (call: string, promise: Promise<T>): Promise<T> {
    promise.catch((err: { code?: string }) => {
      if (!EXPECTED.has(err.code ?? '')) this.#write('call.failed', { call, err }, `Call of ${call} failed: ${String(err)}`)
    })
    return promise
  }

  #write (event: Event, fields: object, message: string): void {
    this.#log?.[logEvents[event]]({ event, ...fields }, message)
  }
}
