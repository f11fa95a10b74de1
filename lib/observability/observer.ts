import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { End } from '../model/close-codes.ts'
import type { Hints } from './hints/hints.ts'
import { ALREADY_REPORTED } from '../model/errors.ts'
import type { LogEvent } from './log-events.ts'
import type { LoggedConnection, Logs } from './logs.ts'
import type { MeasuredConnection, Metrics, Rejection } from './metrics.ts'
import type { Publication } from '../model/publication.ts'
import type { Refusal, RefusalEvent } from './refusal.ts'
import { RepeatedFailures } from './repeated.ts'
import { RecentTexts } from '../util/recent-texts.ts'
import { describe, readable } from '../util/thrown.ts'
import type { TraceContext } from '../google/trace-context.ts'
import { traceparent, withSpan } from './tracing.ts'
import type { Tracing } from './tracing.ts'

/** The fields of a connection that are observed. */
export interface ObservedConnection extends LoggedConnection, MeasuredConnection {
  readonly protocol: MeasuredConnection['protocol']
  readonly transport: MeasuredConnection['transport']
}

/** Turns each event of this instance into metrics, spans, log entries and hints. */
export class Observer {
  readonly #instance: string
  readonly #logs: Logs
  readonly #metrics: Metrics
  readonly #tracing: Tracing
  readonly #hints: Hints
  /**
   * Whether an OpenTelemetry SDK takes durations or spans. Callers on the path of every message test it before
   * `commandDone`, `publishing` and `delivered`, which then cost nothing without an SDK.
   */
  recording = false
  /** Whether messages may be logged. Callers test it before they call `message`. */
  readonly messages: boolean
  /** Texts of the failures of `authenticate`. */
  readonly #failures = new RecentTexts()
  /** Texts of entries that are written once a minute. */
  readonly #entries = new RecentTexts()
  readonly #repeated = new RepeatedFailures()
  /** Unix time in ms since which Redis is down; 0: it never was. */
  #downSince = 0

  /** `instance`: id of this instance. */
  constructor (instance: string, logs: Logs, metrics: Metrics, tracing: Tracing, hints: Hints) {
    this.#instance = instance
    this.#logs = logs
    this.#metrics = metrics
    this.#tracing = tracing
    this.#hints = hints
    this.messages = logs.messages
  }

  /** Binds to the OpenTelemetry SDK that is registered now. May be called again. */
  async bind (): Promise<void> {
    await Promise.all([this.#metrics.bind(), this.#tracing.bind()])
    this.#findSdk()
  }

  /** Trace context of an upgrade, for log entries of its connection. undefined unless logs go to Cloud Logging. */
  traceOf (request: FastifyRequest): TraceContext | undefined {
    return this.#logs.traceOf(request)
  }

  /** An upgrade was rejected, with this HTTP status. 101: it was accepted, and the socket closed at once. */
  rejected (request: FastifyRequest, type: Rejection, reason: string, status: number, details?: object): void {
    this.#metrics.rejected(type)
    this.#tracing.rejected(request, type)
    this.#logs.rejected(request, type, reason, status, details)
  }

  /** `authenticate` has failed, which any client may cause at will. The rejection is reported besides. */
  authenticateFailed (request: FastifyRequest, error: unknown): void {
    if (this.#failures.isNew(describe(error), Date.now())) this.#logs.authenticateFailed(request, error)
  }

  /** The app's function `trustedProxies` has returned or thrown this in place of the address of a client. */
  addressUnknown (told: unknown): void {
    this.#hints.addressUnknown(told, Date.now())
  }

  /** An upgrade that arrived after `app.close()` was rejected. It never reaches Fastify's router. */
  rejectedAfterClose (request: IncomingMessage, path: string, reason: string): void {
    this.#metrics.rejected('draining')
    this.#tracing.rejectedAfterClose(request, path)
    this.#logs.rejected(request, 'draining', reason, 503)
  }

  /** The user of a connection is known. */
  opened (connection: ObservedConnection, request: FastifyRequest): void {
    this.#logs.opened(connection, request)
  }

  ended (connection: ObservedConnection, end: End): void {
    const now = Date.now()
    this.#metrics.connectionEnded(connection, end)
    this.#logs.closed(connection, end)
    this.#hints.ended(end, now - connection.connectedAt, now)
  }

  /** A connection is terminated because its client reads too slowly. */
  slow (connection: ObservedConnection, bufferedBytes: number): void {
    this.#logs.slow(connection, bufferedBytes)
  }

  /** Whether the log takes entries of level debug. Callers test it before `refused`. */
  get debugs (): boolean { return this.#logs.debugs }

  /** A command of an SDK client got an error reply, or its token was refused. To be called only while `debugs`. */
  refused (event: RefusalEvent, connection: ObservedConnection, refusal: Refusal): void {
    this.#logs.refused(event, connection, refusal)
  }

  /** A handler of the app threw. `handler`: its name, or what else was done for the connection. */
  failed (connection: ObservedConnection, error: unknown, handler: string): void {
    const repeats = this.#repeated.takeRedis('connection.failed', error)
    if (repeats !== undefined) this.#logs.failed(connection, error, handler, repeats)
  }

  /** A call of `app.realtime` or of a connection rejected. Errors that are reported elsewhere are left out. */
  callFailed (call: string, error: unknown): void {
    const cause = readable(error)
    const { code = '' } = (cause ?? {}) as { code?: string }
    const repeats = ALREADY_REPORTED.has(code) ? undefined : this.#repeated.takeRedis('call.failed', cause)
    if (repeats !== undefined) this.#logs.callFailed(call, cause, repeats)
  }

  /** Writes an entry of a part that knows its own text. `request`: that which it is about. */
  entry (event: LogEvent, fields: Record<string, unknown>, text: string, request?: FastifyRequest): void {
    this.#logs.entry(event, fields, text, request)
  }

  /** The same, once a minute for each text: a client, or every publication, may cause it. */
  entryOnce (event: LogEvent, fields: Record<string, unknown>, text: string, request?: FastifyRequest): void {
    if (this.#entries.isNew(`${event} ${text}`, Date.now())) this.#logs.entry(event, fields, text, request)
  }

  /** The app reads the history or the presence of a channel. */
  readsKept (kept: 'history' | 'presence', channel: string): void {
    this.#hints.readsKept(kept, channel)
  }

  /** A command from another instance failed. */
  controlFailed (command: string, error: unknown): void {
    const repeats = this.#repeated.take('control.failed', error)
    if (repeats !== undefined) this.#logs.controlFailed(command, error, repeats)
  }

  /** A message was received or sent. To be called only while `messages`. */
  message (direction: 'received' | 'sent', connection: ObservedConnection, payload: Buffer, binary: boolean): void {
    this.#logs.message(direction, connection, payload, binary)
  }

  /** A command of an SDK was answered. `duration`: ms. `errorType`: code of the error reply, or 'disconnect'. */
  commandDone (command: string, duration: number, errorType: string | undefined): void {
    this.#metrics.commandDone(command, duration, errorType)
  }

  /**
   * Calls `publish` within a 'send' span, and records its duration. If the span is sampled, the publication carries it
   * to the other instances. To be called only while `recording`.
   */
  async publishing<T> (channel: string, publication: Publication, publish: (publication: Publication) => Promise<T>): Promise<T> {
    const span = this.#tracing.send(channel, publication.payload)
    const trace = traceparent(span)
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      return await withSpan(span, publish, trace === undefined ? publication : { ...publication, trace })
    } catch (error) {
      errorType = (error as { code?: string }).code ?? 'other'
      throw error
    } finally {
      this.#metrics.published(performance.now() - startedAt, errorType)
      this.#tracing.sent(span, errorType)
    }
  }

  /** The hub has just queued a publication for its subscribers. To be called only while `recording`. */
  delivered (channel: string, publication: Publication): void {
    // Redis marks the instance of some, see `encodeAroundSequence`.
    if (!publication.instance.startsWith(this.#instance)) this.#metrics.delivered(Date.now() - publication.time)
    this.#tracing.delivered(channel, publication)
  }

  /** Publications are lost for good. */
  missed (channel: string, count: number, reason: string): void {
    this.#metrics.missed(count)
    this.#logs.missed(channel, count, reason)
  }

  /** Publications are lost for one listener, which is too slow. All are counted; a channel is logged once a minute. */
  listenerMissed (channel: string, count: number, reason: string): void {
    this.#metrics.missed(count)
    if (this.#entries.isNew(`missed: ${channel}`, Date.now())) this.#logs.missed(channel, count, reason)
  }

  /** Commands from other instances are lost for good. They are no publications of the app, so no metric counts them. */
  commandsMissed (channel: string, count: number, reason: string): void {
    this.#logs.missed(channel, count, reason)
  }

  /** A subscriber has named its position. `recovered`: whether it got everything since. */
  recovered (recovered: boolean): void {
    this.#metrics.recovery(recovered)
  }

  brokerDown (reason: string): void {
    this.#downSince = Date.now()
    this.#metrics.brokerDown(performance.now())
    this.#logs.bridgeDown(reason)
  }

  /** Down since before, now for another reason. */
  brokerStillDown (reason: string): void {
    this.#logs.bridgeDown(reason)
  }

  /** Redis is up, and refuses what every instance needs from the start. */
  brokerRefuses (reason: string): void {
    this.#logs.redisRefused(reason)
  }

  brokerUp (): void {
    this.#metrics.brokerUp(performance.now())
    this.#logs.bridgeUp(this.#downSince === 0 ? 0 : Date.now() - this.#downSince)
  }

  /** The key set at `url`, by which tokens are verified, cannot be fetched. */
  keysFailed (url: string, reason: string): void {
    this.#logs.keysFailed(url, reason)
  }

  keysRestored (url: string): void {
    this.#logs.keysRestored(url)
  }

  /** `used`, `limit`: bytes of resident memory. */
  memoryShort (used: number, limit: number): void {
    this.#logs.memoryShort(used, limit)
  }

  memoryFreed (used: number, limit: number): void {
    this.#logs.memoryFreed(used, limit)
  }

  /** `timeout`: ms. */
  drainStarted (connections: number, timeout: number): void {
    this.#logs.drainStarted(connections, timeout)
  }

  /** `duration`: ms. */
  drained (connections: number, terminated: number, duration: number): void {
    this.#metrics.drained(duration)
    this.#logs.drainFinished(connections, terminated, duration)
  }

  /** `/ready` was requested. An empty list of reasons means that it answered 200. */
  probed (reasons: readonly string[], now: number): void {
    this.#hints.probed(reasons, now)
  }

  /** A hook of the app has answered a probe. */
  probeRefused (path: string, status: number): void {
    this.#hints.probeRefused(path, status, Date.now())
  }

  /** The heartbeat has swept, `late` ms after it was due. */
  swept (now: number, late: number, connections: number): void {
    this.#hints.swept(now, late, connections)
    this.#findSdk()
  }

  /** Also at every sweep: an app may register its tracer provider after it has begun to listen. */
  #findSdk (): void {
    this.recording = this.#metrics.bound || this.#tracing.registered
  }
}
