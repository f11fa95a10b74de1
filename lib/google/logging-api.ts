import { pino } from 'pino'
import { cloudLogging } from './cloud-logging.ts'
import { adviceFor, MISSING, openLoggingClient } from './logging-client.ts'
import type { LoggingClient } from './logging-client.ts'
import { settledWithin } from '../util/timeout.ts'

/** What may wait: lines, and their characters. What comes beyond is dropped and counted. */
const MAX_QUEUE = 10_000
const MAX_QUEUE_SIZE = 16_777_216
/**
 * What one request carries: entries, and their characters. Google takes at most 10 MB
 * (docs.cloud.google.com/logging/quotas).
 */
const MAX_BATCH = 500
const MAX_BATCH_SIZE = 1_048_576
/** ms that an entry waits for others. */
const BATCH_INTERVAL = 1_000
/** ms that stdout takes over after a failure; doubled by each failure up to the second. */
const RETRY_AFTER = 1_000
const MAX_RETRY_AFTER = 60_000
/** ms that sending what is left may take at close. */
const FLUSH_TIMEOUT = 2_000

interface Stdout { write (line: string): unknown }

/**
 * A stream for pino whose lines go to Cloud Logging's API, many in one request. When the API fails they go to stdout,
 * which Cloud Run reads as well, and after a while it is tried again: nothing is lost, nobody waits, nothing is
 * thrown.
 */
export class CloudLoggingApi {
  readonly #stdout: Stdout
  readonly #log
  #queue: string[] = []
  #size = 0
  #dropped = 0
  #client: LoggingClient | undefined
  /** What is under way, and its lines. */
  #sending: Promise<void> | undefined
  #batch: string[] = []
  #timer: NodeJS.Timeout | undefined
  /** Unix time in ms until which everything goes to stdout; 0: the last request succeeded. */
  #stdoutUntil = 0
  #retryAfter = RETRY_AFTER
  #state: 'open' | 'closing' | 'closed' = 'open'

  constructor (stdout: Stdout = process.stdout) {
    this.#stdout = stdout
    this.#log = pino(cloudLogging(), { write: line => { stdout.write(line) } })
  }

  write (line: string): void {
    if (this.#state === 'closed' || Date.now() < this.#stdoutUntil) {
      this.#stdout.write(line)
    } else if (this.#queue.length >= MAX_QUEUE || this.#size + line.length > MAX_QUEUE_SIZE) {
      this.#dropped++
    } else {
      this.#queue.push(line)
      this.#size += line.length
      if (this.#full) this.#send()
      else this.#sendLater()
    }
  }

  /** Sends what is left, in two seconds at the most; what could not be sent is written to stdout. */
  async close (): Promise<void> {
    this.#state = 'closing'
    // A process so young that it has no client would only now begin to load it; stdout takes no time.
    if (this.#client !== undefined) this.#send()
    if (this.#sending !== undefined) await settledWithin(this.#sending, FLUSH_TIMEOUT)
    this.#state = 'closed'
    clearTimeout(this.#timer)
    this.#spill()
    this.#reportDropped()
    this.#client?.close()
  }

  get #full (): boolean { return this.#queue.length >= MAX_BATCH || this.#size >= MAX_BATCH_SIZE }

  #sendLater (): void {
    this.#timer ??= setTimeout(() => this.#send(), BATCH_INTERVAL).unref()
  }

  #send (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#queue.length > 0) this.#sending ??= this.#sendAll()
  }

  /** Never rejects. What comes meanwhile waits: one request at a time. */
  async #sendAll (): Promise<void> {
    do {
      this.#take()
      await this.#sendBatch()
      this.#reportDropped()
    } while (this.#full || (this.#state === 'closing' && this.#queue.length > 0))
    this.#sending = undefined
    if (this.#queue.length > 0) this.#sendLater()
  }

  #take (): void {
    let size = 0
    const end = this.#queue.findIndex((line, i) => i >= MAX_BATCH || ((size += line.length) > MAX_BATCH_SIZE && i > 0))
    this.#batch = this.#queue.splice(0, end === -1 ? this.#queue.length : end)
    this.#size -= this.#batch.reduce((sum, { length }) => sum + length, 0)
  }

  async #sendBatch (): Promise<void> {
    try {
      this.#client ??= await openLoggingClient()
      if (this.#state === 'closed') return this.#client.close()
      await this.#client.write(this.#batch)
      this.#succeeded()
    } catch (error) {
      this.#failed(error)
    }
    this.#batch = []
  }

  #succeeded (): void {
    if (this.#stdoutUntil !== 0) this.#log.info({ event: 'logging.restored' }, "Cloud Logging's API takes entries again")
    this.#stdoutUntil = 0
    this.#retryAfter = RETRY_AFTER
  }

  #failed (error: unknown): void {
    if (this.#state === 'closed') return // its lines are on stdout already
    const { code, message } = error as { code?: unknown, message?: string }
    const reason = message ?? String(error)
    if (this.#stdoutUntil === 0) this.#log.error({ event: 'logging.failed', reason }, `Cloud Logging's API does not accept entries: ${reason}. They go to stdout meanwhile. ${adviceFor(code)}`)
    this.#stdoutUntil = code === MISSING ? Infinity : Date.now() + this.#retryAfter
    this.#retryAfter = Math.min(this.#retryAfter * 2, MAX_RETRY_AFTER)
    this.#spill()
  }

  /**
   * A request that was not answered may have been taken: then its entries are there twice, which is better than not
   * at all.
   */
  #spill (): void {
    for (const line of this.#batch) this.#stdout.write(line)
    for (const line of this.#queue) this.#stdout.write(line)
    this.#batch = []
    this.#queue = []
    this.#size = 0
  }

  /** Once per request at the most. */
  #reportDropped (): void {
    if (this.#dropped === 0) return
    this.#log.warn({ event: 'logging.dropped', count: this.#dropped }, `${this.#dropped} log entries dropped: more came than Cloud Logging's API accepted`)
    this.#dropped = 0
  }
}
