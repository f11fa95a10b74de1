import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { End } from '../model/close-codes.ts'
import type { TrustedProxies } from '../google/client-address.ts'
import { httpRequest, LABELS, OPERATION } from '../google/log-entry.ts'
import { requestTrace } from '../google/cloud-logging.ts'
import type { LogDestination } from './log-destination.ts'
import { logEvents } from './log-events.ts'
import type { LogEvent } from './log-events.ts'
import { isOfPost } from './metrics.ts'
import type { Rejection } from './metrics.ts'
import type { ResolvedLogging } from '../options/resolve.ts'
import { readTrace } from '../google/trace-context.ts'
import type { TraceContext } from '../google/trace-context.ts'
import { textOf } from './refusal.ts'
import type { Refusal, RefusalEvent } from './refusal.ts'
import type { Repeats } from './repeated.ts'
import { describe } from '../util/thrown.ts'
import type { StartEntry } from './start-entry.ts'

/** The fields of a connection that entries show. */
export interface LoggedConnection {
  readonly id: string
  readonly user: string
  readonly protocol: string
  readonly transport: string
  /** Unix time in ms. */
  readonly connectedAt: number
  /** Messages, and bytes of their payloads. */
  readonly received: number
  readonly sent: number
  readonly bytesReceived: number
  readonly bytesSent: number
  /** Whether `connection.opened` was logged: with an SDK only after its connect command. */
  readonly identified: boolean
  /** Trace context of the upgrade request, from `traceOf`. */
  readonly trace: TraceContext | undefined
}

/** Name of this package in Cloud Logging's `operation`: the entries of one connection are one operation. */
const PRODUCER = 'fastify-cloud-run-websocket'
/** What carries most connections. Anything else is a response over HTTP. */
const WEBSOCKET = 'websocket'
/** Levels at which debug entries are written, of loggers that do not say so themselves. */
const DEBUG_LEVELS: ReadonlySet<string> = new Set(['debug', 'trace'])
/** Bytes of a message's content in an entry. */
const MAX_CONTENT = 1_024

/** Writes this package's log entries, through the app's logger or past it. What a client causes is never an error. */
export class Logs {
  readonly #destination: LogDestination
  readonly #sampling: ResolvedLogging['messages']
  readonly #trustedProxies: TrustedProxies
  /** Whether messages may be logged. Callers are on the path of every message, so they test it before `message`. */
  readonly messages: boolean

  constructor (destination: LogDestination, logging: ResolvedLogging | false, trustedProxies: TrustedProxies = 0) {
    this.#destination = destination
    this.#trustedProxies = trustedProxies
    this.#sampling = logging !== false && logging.messages
    this.messages = this.#sampling !== false
  }

  /** Whether entries of level debug are written now: an app may change the level at any time. */
  get debugs (): boolean { return this.#takes('debug') }

  /** Flushes the entries that still wait, within two seconds. */
  close (): Promise<void> {
    return this.#destination.close()
  }

  /** Trace context by which the entries of a connection are found. undefined unless logs go to Cloud Logging. */
  traceOf (request: FastifyRequest | IncomingMessage): TraceContext | undefined {
    return this.#destination.cloud ? readTrace(request.headers) : undefined
  }

  started ({ fields, text }: StartEntry): void {
    this.#write('plugin.started', fields, text)
  }

  opened (connection: LoggedConnection, request: FastifyRequest): void {
    if (!this.#takes(logEvents['connection.opened'])) return
    const status = connection.transport === WEBSOCKET ? 101 : 200
    const context = { ...this.#context(connection, { first: true }), ...this.#request(request, status) }
    this.#write('connection.opened', { ...client(connection), reqId: request.id, ...context }, `${nameOf(connection)} opened`)
  }

  closed (connection: LoggedConnection, { code, reason, cause, detail }: End): void {
    if (!this.#takes(logEvents['connection.closed'])) return
    const { received, sent, bytesReceived, bytesSent, connectedAt, identified } = connection
    const age = (Date.now() - connectedAt) / 1_000
    const counts = { received, sent, bytesReceived, bytesSent }
    const context = this.#context(connection, { ...(!identified && { first: true }), last: true })
    const fields = { ...client(connection), age, cause, code, reason, detail, ...counts, ...context }
    this.#write('connection.closed', fields, `${nameOf(connection)} closed: ${cause} (${code}${reason && `, ${reason}`})`)
  }

  /**
   * The path is logged without its query: clients that cannot send headers put their tokens there. `details`: the
   * error, or the close code.
   */
  rejected (request: FastifyRequest | IncomingMessage, error: Rejection, reason: string, status: number, details?: object): void {
    if (!this.#takes(logEvents['connection.rejected'])) return
    const { url = '', headers: { origin } } = request
    const [path = ''] = url.split('?', 1)
    const reqId = 'id' in request ? request.id : undefined
    const context = { ...this.#request(request, status), [requestTrace]: this.traceOf(request) }
    const what = isOfPost(error) ? 'Post' : request.headers.upgrade === undefined ? 'Connection' : 'WebSocket connection'
    const text = `${what} to ${path} rejected (${error}): ${reason}`
    this.#writeWithError('connection.rejected', { error, reqId, path, origin, ...details, ...context }, text)
  }

  slow (connection: LoggedConnection, bufferedBytes: number): void {
    const fields = { ...client(connection), bufferedBytes, ...this.#context(connection) }
    this.#write('connection.slow', fields, `${nameOf(connection)} is closed: the client does not read fast enough`)
  }

  /** A handler of the app threw. The entry has its stack. `handler`: its name, or what else was done. */
  failed (connection: LoggedConnection, err: unknown, handler: string, repeats: Repeats): void {
    const fields = { ...client(connection), handler, err, ...repeats, ...this.#context(connection) }
    this.#writeWithError('connection.failed', fields, `${handler} failed: ${describe(err)}`)
  }

  /** `authenticate` has a bug, or something it needs is down. The entry has its stack. */
  authenticateFailed (request: FastifyRequest, err: unknown): void {
    const fields = { reqId: request.id, path: request.url.split('?', 1)[0], err, [requestTrace]: this.traceOf(request) }
    this.#writeWithError('authenticate.failed', fields, `authenticate failed: ${describe(err)}`)
  }

  refused (event: RefusalEvent, connection: LoggedConnection, refusal: Refusal): void {
    this.#write(event, { ...client(connection), ...refusal, ...this.#context(connection) }, textOf(event, refusal))
  }

  /** Logs a random sample of the messages. The content is left out unless the app asks for it. */
  message (direction: 'received' | 'sent', connection: LoggedConnection, payload: Buffer, binary: boolean): void {
    if (this.#sampling === false || Math.random() >= this.#sampling.ratio) return
    const content = this.#sampling.content && contentOf(payload, binary)
    const fields = { ...client(connection), bytes: payload.length, binary, ...content, ...this.#context(connection) }
    this.#write(`message.${direction}`, fields, `${connection.transport === 'websocket' ? 'WebSocket message' : 'Message'} ${direction}`)
  }

  /** `used`, `limit`: bytes of resident memory. */
  memoryShort (used: number, limit: number): void {
    this.#write('memory.short', { used, limit }, 'Memory is short: new connections are refused')
  }

  memoryFreed (used: number, limit: number): void {
    this.#write('memory.freed', { used, limit }, 'Memory is no longer short: new connections are accepted')
  }

  /** `timeout`: ms. */
  drainStarted (connections: number, timeout: number): void {
    this.#write('drain.started', { connections, timeout }, 'Closing all connections')
  }

  /** `duration`: ms. */
  drainFinished (connections: number, terminated: number, duration: number): void {
    this.#write('drain.finished', { connections, terminated, duration }, 'All connections are closed')
  }

  bridgeDown (reason: string): void {
    this.#write('bridge.down', { reason }, `${whatFailed(reason)}: ${reason.replace(/[.?]+$/, '')}. Connections stay open, and publishing fails`)
  }

  /** `downtime`: ms; 0 at the start. */
  bridgeUp (downtime: number): void {
    this.#write('bridge.up', { away: downtime }, 'Redis is up')
  }

  missed (channel: string, count: number, reason: string): void {
    this.#write('publications.missed', { channel, count, reason }, `Publications lost: ${reason}`)
  }

  /** `url`: without its query. */
  keysFailed (url: string, reason: string): void {
    this.#write('keys.failed', { url, reason }, `The keys that verify tokens cannot be fetched from ${url}: ${reason}. Clients try again`)
  }

  keysRestored (url: string): void {
    this.#write('keys.restored', { url }, `The keys that verify tokens were fetched from ${url} again`)
  }

  /** Redis is up, and refuses what every instance needs from the start. */
  redisRefused (reason: string): void {
    const advice = REFUSAL_ADVICE.find(([pattern]) => pattern.test(reason))?.[1] ?? ''
    this.#write('redis.refused', { reason }, `Redis is up and refuses commands: ${reason}. ${advice}This instance is not ready`)
  }

  controlFailed (command: string, err: unknown, repeats: Repeats): void {
    const fields = { command, err, ...repeats }
    this.#writeWithError('control.failed', fields, `Command ${command} from another instance failed: ${describe(err)}`)
  }

  callFailed (call: string, err: unknown, repeats: Repeats): void {
    this.#writeWithError('call.failed', { call, err, ...repeats }, `Call of ${call} failed: ${describe(err)}`)
  }

  /** An entry of a part that knows its own text. `request`: that which it is about. */
  entry (event: LogEvent, fields: Record<string, unknown>, message: string, request?: FastifyRequest): void {
    const about = request && { reqId: request.id, [requestTrace]: this.traceOf(request) }
    this.#writeWithError(event, { ...about, ...fields }, message)
  }

  /** `command` corrects the setting. */
  hint (hint: string, command: string, details: object, message: string): void {
    this.#write('hint', { hint, command, ...details }, `${message}: ${command}`)
  }

  /** `interval`: ms between two exports. */
  telemetryStarted (url: string, interval: number): void {
    this.#write('telemetry.started', { url, interval }, `Metrics are sent to ${url}`)
  }

  /** `status`: HTTP status of the answer, if there was one. */
  telemetryFailed (cause: string, status: number | undefined, text: string): void {
    this.#write('telemetry.failed', { cause, status }, `Metrics do not arrive: ${text}`)
  }

  telemetryRecovered (): void {
    this.#write('telemetry.recovered', {}, 'Metrics arrive again')
  }

  /** Groups the entries of one connection into one operation, and links them to the trace of its upgrade. */
  #context ({ id, protocol, trace }: LoggedConnection, place: { first?: true, last?: true } = {}): object | undefined {
    if (!this.#destination.cloud) return undefined
    return { [OPERATION]: { id, producer: PRODUCER, ...place }, [LABELS]: { websocket_protocol: protocol }, [requestTrace]: trace }
  }

  #request (request: FastifyRequest | IncomingMessage, status: number): object | undefined {
    return this.#destination.cloud ? { httpRequest: httpRequest(request, this.#trustedProxies, status) } : undefined
  }

  /** The serializer of the logger reads every field of an error, and of its causes; one may throw while it is read. */
  #writeWithError (event: LogEvent, fields: Record<string, unknown>, message: string): void {
    try {
      this.#write(event, fields, message)
    } catch {
      this.#write(event, { ...fields, err: new Error(describe(fields.err)) }, message)
    }
  }

  /** Whether the logger takes entries of this level: those of every connection need not be made in vain. */
  #takes (level: 'debug' | 'info' | 'warn'): boolean {
    const log: { level: string, isLevelEnabled?: (level: string) => boolean } | undefined = this.#destination.log
    return log !== undefined && (log.isLevelEnabled?.(level) ?? (level !== 'debug' || DEBUG_LEVELS.has(log.level)))
  }

  #write (event: LogEvent, fields: object, message: string): void {
    this.#destination.log?.[logEvents[event]]({ event, ...fields }, message)
  }
}

/** Redis may be up, and refuse. */
/** What to do about replies of Redis. */
const REFUSAL_ADVICE: ReadonlyArray<readonly [RegExp, string]> = [
  [/^MOVED/, 'It is a cluster: set REDIS_CLUSTER=true, or give the option redis { rootNodes }. '],
  [/^OOM/, 'It is full and must not evict: give it more memory, or keep less history. ']
]

function whatFailed (reason: string): string {
  if (/^NOAUTH/.test(reason)) return 'Redis requires a password, and none is set'
  if (/^(WRONGPASS|ERR invalid password|ERR AUTH|ERR Client sent AUTH)/.test(reason)) return 'Redis refused the password'
  if (/^no (password|Google access token) for Redis/.test(reason)) return 'Redis cannot be logged in to'
  return /^the Redis user lacks rights/.test(reason) ? 'Redis refused commands' : 'Redis is down'
}

function nameOf ({ user, transport }: LoggedConnection): string {
  const kind = transport === WEBSOCKET ? 'WebSocket' : 'HTTP'
  return `${kind} connection of ${user === '' ? 'an anonymous client' : `user ${user}`}`
}

/** Entries of WebSockets do not name what carries them. */
function client ({ id, user, protocol, transport }: LoggedConnection): object {
  return { connection: id, user, protocol, ...(transport !== WEBSOCKET && { transport }) }
}

function contentOf (payload: Buffer, binary: boolean): object {
  const content = payload.toString(binary ? 'base64' : 'utf8', 0, MAX_CONTENT)
  return { content, ...(payload.length > MAX_CONTENT && { cut: true }) }
}
