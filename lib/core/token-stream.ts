import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { HistorySettings } from '../model/broker.ts'
import { ClientError } from '../model/client-error.ts'
import { InvalidArgumentError, StreamTakenError, StreamTooLongError } from '../model/errors.ts'
import type { Position } from '../model/publication.ts'
import type { StreamEnd, StreamPart } from '../model/stream-part.ts'
import type { Duration } from '../options/checks.ts'
import { isIterable } from '../util/is-iterable.ts'
import { Wake } from '../util/wake.ts'

/** UTF-16 code units that leave at once, without waiting for more. */
const FULL = 4_096
/** Units that wait for Redis at most. Then the source waits, too. */
const MAX_WAITING = 65_536
/** Milliseconds before a publish that failed is tried again, and for how long it is: less while the app shuts down. */
const RETRY = 250
const PATIENCE = 300_000
const LAST_PATIENCE = 2_000
/** Milliseconds after which a part is preceded by a look at who else publishes the stream. */
const LOOK = 1_000

type Chunks = AsyncIterable<string> | Iterable<string>

/**
 * Where the text of a stream comes from. A function gets the text so far, which is empty unless the stream is resumed,
 * and a signal that is aborted when the stream is stopped.
 */
export type StreamSource = Chunks | ((text: string, signal: AbortSignal) => Chunks | Promise<Chunks>)

/** Options of `app.realtime.stream`. */
export interface StreamOptions {
  /** Id of the stream: 1 to 64 characters. Two streams of a channel must not have the same id. @default a random one */
  id?: string | undefined
  /** Stops the stream when it is aborted. @default none */
  signal?: AbortSignal | undefined
  /** How long text waits for more, so that it is sent in one publication; at most one second. @default 50 ms */
  batchDelay?: Duration | undefined
  /** True: continues after the text that the history has of this `id`. @default false */
  resume?: boolean | undefined
}

/** The outcome of a stream, and the position of its last publication. */
export interface StreamResult extends Position {
  id: string
  /** All of its text. */
  text: string
  /** 'done', 'stopped' or 'interrupted': if its source fails, the promise rejects. */
  end: StreamEnd
}

/** Who else has published parts of a stream, up to this position. */
export interface Rivals extends Position {
  /** The call that has the stream now, or one that has not noticed that it lost it. */
  readonly found: 'none' | 'loser' | 'winner'
}

/** What a stream is given by whoever starts it. */
export interface StreamStart {
  readonly id: string
  readonly batchDelay: number
  readonly history: HistorySettings
  readonly maxBytes: number
  /** The text that is there. */
  readonly text: string
  /** Position of the part with which the stream was resumed. */
  readonly at: Position | undefined
  /** Looks for other publishers of the stream after this position. */
  rivals (after: Position): Promise<Rivals>
  publish (part: StreamPart): Promise<Partial<Position>>
}

/**
 * Publishes the text of one source in parts, one at a time: while Redis takes a part, the next one grows. Each says
 * where in the text it belongs, so a part that was published twice does no harm, and one that may have failed is sent
 * again.
 *
 * Before half of the history has passed since, a part has the whole text. So late subscribers find all they need in the
 * history, whatever else is published in the channel. The last part has the whole text, too.
 *
 * If another call resumes the stream, because this one is slow, or was taken for crashed, this one stops: it looks for
 * others before a part, about once a second, and so before the first part after a pause. Parts that it has published
 * meanwhile do no harm: the other one finds them in the same way, and publishes the whole text again.
 */
export class TokenStream {
  readonly #start: StreamStart
  readonly #abort = new AbortController()
  /** Wakes the sender: there is more text, or the end. */
  readonly #more = new Wake()
  /** Wakes the source: there is room for more. */
  readonly #room = new Wake()
  #interrupt: () => void = () => {}
  #text: string
  #bytes: number
  /** Units of the text that are published. */
  #published: number
  /** Position of the last part with the whole text; undefined: the next one has to have it. */
  #wholeAt: Position | undefined
  /** Offset of the last part. */
  #offset = 0
  /** Position up to which nobody has taken the stream away; undefined before the first part. */
  #lookedTo: Position | undefined
  /** Unix time in milliseconds of the last look at other publishers. */
  #lookedAt = Date.now()
  /** Unix time in milliseconds of the last part. */
  #publishedAt = 0
  #stopped: 'stopped' | 'interrupted' | undefined
  #end: Pick<StreamPart, 'end' | 'error'> | undefined

  constructor (start: StreamStart) {
    this.#start = start
    this.#lookedTo = start.at
    this.#text = start.text
    this.#bytes = Buffer.byteLength(start.text)
    this.#published = start.text.length
  }

  /** Resolves when the end is published. Rejects with what the source has thrown, or if Redis stays away. */
  async run (source: StreamSource): Promise<StreamResult> {
    const sent = this.#send()
    sent.catch(() => this.stop('stopped')) // the source waits for room; the failure is awaited below
    let failure: { error: unknown } | undefined
    try {
      await this.#pull(source)
      this.#end = { end: this.#stopped ?? 'done' }
    } catch (error) {
      failure = { error }
      this.#end = { end: 'failed', ...(error instanceof ClientError && { error: { code: error.code, message: error.message } }) }
    }
    this.#more.wake()
    const [outcome] = await Promise.allSettled([sent])
    if (failure !== undefined) throw failure.error
    if (outcome.status === 'rejected') throw outcome.reason
    return { id: this.#start.id, text: this.#text, end: this.#end.end!, ...outcome.value }
  }

  /** Stops the source and publishes the end. */
  stop (how: 'stopped' | 'interrupted'): void {
    if (this.#stopped !== undefined) return
    this.#stopped = how
    this.#abort.abort()
    this.#interrupt()
    this.#room.wake()
  }

  async #pull (source: StreamSource): Promise<void> {
    const { signal } = this.#abort
    const chunks = await this.#unlessStopped(async () => typeof source === 'function' ? source(this.#text, signal) : source)
    if (chunks === undefined) return
    if (!isIterable(chunks)) throw new InvalidArgumentError('source', inspect(chunks), 'an async iterable of strings')
    const iterator = iteratorOf(chunks)
    let ended = false
    try {
      while (this.#stopped === undefined) {
        const next = await this.#unlessStopped(async () => iterator.next(), () => { ended = true })
        if (next === undefined) return
        if (next.done) {
          ended = true
          return
        }
        this.#add(next.value)
        while (this.#text.length - this.#published >= MAX_WAITING && this.#stopped === undefined) await this.#room.wait()
      }
    } finally {
      // A generator returns when its present step ends, which may be never: nobody waits for it.
      if (!ended) (async () => iterator.return?.())().catch(() => {}) // the stream has ended without it
    }
  }

  /** Resolves to undefined as soon as the stream is stopped: a source may not answer for long. */
  #unlessStopped<T> (step: () => Promise<T>, failed = () => {}): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      this.#interrupt = () => resolve(undefined)
      if (this.#stopped !== undefined) return resolve(undefined)
      step().then(resolve, (error: unknown) => {
        failed()
        reject(error)
      })
    })
  }

  #add (chunk: unknown): void {
    if (typeof chunk !== 'string') throw new InvalidArgumentError('chunk of a stream', inspect(chunk), 'a string')
    const { id, maxBytes } = this.#start
    this.#bytes += Buffer.byteLength(chunk)
    if (this.#bytes > maxBytes) throw new StreamTooLongError(id, maxBytes)
    this.#text += chunk
    this.#more.wake()
  }

  async #send (): Promise<Position> {
    let failingSince = 0
    for (;;) {
      await this.#due()
      try {
        await this.#look()
        const end = this.#end
        const whole = end !== undefined || this.#needsWhole()
        const [from, to] = [whole ? 0 : this.#published, end === undefined ? this.#ready : this.#text.length]
        const position = await this.#start.publish({ stream: this.#start.id, from, text: this.#text.slice(from, to), ...end })
        this.#took(position as Position, whole, to)
        failingSince = 0
        if (end !== undefined) return this.#wholeAt!
      } catch (error) {
        const now = Date.now()
        failingSince ||= now
        if (!isOfRedis(error) || now - failingSince >= (this.#stopped === 'interrupted' ? LAST_PATIENCE : PATIENCE)) throw error
        this.#wholeAt = undefined // Redis may come back without what it had
        await wait(RETRY)
      }
    }
  }

  /** @throws FST_CRWS_STREAM_TAKEN */
  async #look (): Promise<void> {
    const now = Date.now()
    if (this.#lookedTo === undefined) return
    const held = this.#offset - this.#lookedTo.offset < this.#start.history.size / 2 // all since then is in the history
    if (held && now - this.#lookedAt < LOOK) return
    const { found, offset, epoch } = await this.#start.rivals(this.#lookedTo)
    this.#lookedAt = now
    this.#lookedTo = { offset, epoch }
    if (found === 'winner') throw new StreamTakenError(this.#start.id)
    if (found === 'loser') this.#wholeAt = undefined
  }

  /** Resolves when a part is due: `batchDelay` after the last one, if there is something to say. */
  async #due (): Promise<void> {
    while (!this.#hasMore()) await this.#more.wait()
    for (;;) {
      const left = this.#publishedAt + this.#start.batchDelay - Date.now()
      if (left <= 0 || this.#end !== undefined || this.#ready - this.#published >= FULL) return
      await this.#more.wait(left)
    }
  }

  #hasMore (): boolean {
    return this.#end !== undefined || this.#ready > this.#published || (this.#wholeAt === undefined && this.#published > 0)
  }

  /** Units that may leave: a surrogate pair whose second half has not come yet waits for it. */
  get #ready (): number {
    const { length } = this.#text
    return isHighSurrogate(this.#text.charCodeAt(length - 1)) ? length - 1 : length
  }

  #needsWhole (): boolean {
    const { size, ttl } = this.#start.history
    if (this.#wholeAt === undefined || Date.now() - this.#publishedAt >= ttl / 2) return true
    return this.#offset - this.#wholeAt.offset >= size / 2 - 1
  }

  #took (position: Position, whole: boolean, published: number): void {
    this.#offset = position.offset
    this.#lookedTo ??= position
    if (whole) this.#wholeAt = position
    else if (this.#wholeAt?.epoch !== position.epoch) this.#wholeAt = undefined // the history has begun anew, without the text
    this.#published = published
    this.#publishedAt = Date.now()
    this.#room.wake()
  }
}

function iteratorOf (chunks: Chunks): AsyncIterator<string> | Iterator<string> {
  if (Symbol.asyncIterator in chunks) return chunks[Symbol.asyncIterator]()
  return chunks[Symbol.iterator]()
}

function isHighSurrogate (unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff
}

function isOfRedis (error: unknown): boolean {
  return /^FST_CRWS_REDIS_/.test(String((error as { code?: unknown } | null)?.code))
}
