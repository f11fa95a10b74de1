import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { End } from '../model/close-codes.ts'
import { httpRequest, LABELS, OPERATION } from '../google/log-entry.ts'
import { requestTrace } from '../google/cloud-logging.ts'
import type { Connection } from '../core/connection.ts'
import type { LogDestination } from './log-destination.ts'
import type { Rejection } from './metrics.ts'
import type { ResolvedLogging } from '../options/options.ts'
import { readTrace } from '../google/trace-context.ts'
import type { TraceContext } from '../google/trace-context.ts'

/** Every entry's `event` and level; a test compares this list with the README's. */
export const logEvents = {
  'connection.opened': 'info',
  'connection.closed': 'info',
  'connection.rejected': 'warn',
  'connection.slow': 'warn',
  'connection.failed': 'error',
  'memory.short': 'warn',
  'memory.freed': 'info',
  'drain.started': 'info',
  'drain.finished': 'info',
  'bridge.down': 'error',
  'bridge.up': 'info',
  'publications.missed': 'warn',
  'control.failed': 'warn',
  'call.failed': 'warn',
  hint: 'warn',
  'message.received': 'info',
  'message.sent': 'info',
  'logging.failed': 'error',
  'logging.restored': 'info',
  'logging.dropped': 'warn',
  'telemetry.started': 'info',
  'telemetry.failed': 'warn',
  'telemetry.recovered': 'info'
} as const satisfies Record<string, 'info' | 'warn' | 'error'>

/** What has an entry of its own, or is nobody's fault. */
export const EXPECTED: ReadonlySet<string> = new Set(['FST_CRWS_REDIS_UNAVAILABLE', 'FST_CRWS_REDIS_NO_ANSWER', 'FST_CRWS_CONNECTION_CLOSED'])

type Event = keyof typeof logEvents

/** Name of this package in the operation that the entries of one connection are. */
const PRODUCER = 'fastify-cloud-run-websocket'
/** Bytes of a message that an entry shows. */
const MAX_CONTENT = 1_024

/** The entries this package writes, through the host's logger or past it. What a client causes is a warning at the most. */
export class Logs {
  readonly #destination: LogDestination
  readonly #messages: ResolvedLogging['messages']

  constructor (destination: LogDestination, logging: ResolvedLogging | false) {
    this.#destination = destination
    this.#messages = logging !== false && logging.messages
  }

  /** Sends what still waits, in two seconds at the most. */
  close (): Promise<void> {
    return this.#destination.close()
  }

  /** Whether some messages have an entry. */
  get messages (): boolean { return this.#messages !== false }

  /** What a connection is to remember of its upgrade, so that its entries are found with it. */
  traceOf (request: FastifyRequest | IncomingMessage): TraceContext | undefined {
    return this.#destination.cloud ? readTrace(request.headers) : undefined
  }

  opened (connection: Connection, request: FastifyRequest): void {
    const { id, user, protocol } = connection
    this.#write('connection.opened', { connection: id, user, protocol, reqId: request.id, ...this.#context(connection, { first: true }), ...this.#request(request, 101) }, 'WebSocket connection opened')
  }

  closed (connection: Connection, { code, reason, cause }: End): void {
    const { id, user, protocol, received, sent, bytesReceived, bytesSent, connectedAt } = connection
    const age = (Date.now() - connectedAt) / 1_000
    const counts = { received, sent, bytesReceived, bytesSent }
    this.#write('connection.closed', { connection: id, user, protocol, age, cause, code, reason, ...counts, ...this.#context(connection, { ...(!connection.identified && { first: true }), last: true }) }, 'WebSocket connection closed')
  }

  /** Without the query, in which clients that can send no headers carry their tokens. */
  rejected (reqId: string | undefined, request: FastifyRequest | IncomingMessage, error: Rejection, reason: string, status: number): void {
    const { url, headers: { origin } } = request
    const context = { ...this.#request(request, status), [requestTrace]: this.traceOf(request) }
    this.#write('connection.rejected', { error, reqId, path: url?.split('?', 1)[0], origin, ...context }, `WebSocket connection rejected: ${reason}`)
  }

  slow (connection: Connection, bufferedBytes: number): void {
    const { id, user, protocol } = connection
    this.#write('connection.slow', { connection: id, user, protocol, bufferedBytes, ...this.#context(connection) }, 'WebSocket client does not read fast enough and is dropped')
  }

  /** The host's code threw: its stack is what helps. */
  failed (connection: Connection, err: unknown): void {
    const { id, user, protocol } = connection
    this.#write('connection.failed', { connection: id, user, protocol, err, ...this.#context(connection) }, `Handler of a WebSocket connection failed: ${(err as Error)?.message}`)
  }

  /** One of those that have an entry, by chance. Without what is in it, unless the host wants that. */
  message (what: 'received' | 'sent', connection: Connection, payload: Buffer, binary: boolean): void {
    if (this.#messages === false || Math.random() >= this.#messages.ratio) return
    const { id, user, protocol } = connection
    const content = this.#messages.content && { content: payload.toString(binary ? 'base64' : 'utf8', 0, MAX_CONTENT), ...(payload.length > MAX_CONTENT && { cut: true }) }
    this.#write(`message.${what}`, { connection: id, user, protocol, bytes: payload.length, binary, ...content, ...this.#context(connection) }, `WebSocket message ${what}`)
  }

  /** Bytes. */
  memoryShort (used: number, limit: number): void {
    this.#write('memory.short', { used, limit }, 'Memory runs out: no more connections are taken')
  }

  memoryFreed (used: number, limit: number): void {
    this.#write('memory.freed', { used, limit }, 'There is memory again: connections are taken')
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

  /** Something about the service is likely set wrong. */
  hint (hint: string, command: string, details: object, message: string): void {
    this.#write('hint', { hint, command, ...details }, `${message}: ${command}`)
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
  watch<T> (call: string, run: () => T | Promise<T>): Promise<T> {
    const promise = (async () => run())()
    promise.catch((err: { code?: string }) => {
      if (!EXPECTED.has(err.code ?? '')) this.#write('call.failed', { call, err }, `Call of ${call} failed: ${String(err)}`)
    })
    return promise
  }

  /** What makes the entries of one connection one operation, found with the trace of its upgrade. */
  #context ({ id, protocol, trace }: Connection, place: { first?: true, last?: true } = {}): object | undefined {
    return this.#destination.cloud ? { [OPERATION]: { id, producer: PRODUCER, ...place }, [LABELS]: { websocket_protocol: protocol }, [requestTrace]: trace } : undefined
  }

  #request (request: FastifyRequest | IncomingMessage, status: number): object | undefined {
    return this.#destination.cloud ? { httpRequest: httpRequest(request, status) } : undefined
  }

  #write (event: Event, fields: object, message: string): void {
    this.#destination.log?.[logEvents[event]]({ event, ...fields }, message)
  }
}
