import { randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import { checkFields } from '../model/arguments.ts'
import type { HistorySettings } from '../model/broker.ts'
import { checkChannel } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import { ClosingError, InvalidArgumentError, StreamTakenError } from '../model/errors.ts'
import { encodePayload } from '../model/publication.ts'
import type { Position } from '../model/publication.ts'
import { joinParts, nextCall, partOf, precedes, resumedBy, tagsOf } from '../model/stream-part.ts'
import type { StreamPart } from '../model/stream-part.ts'
import type { Observer } from '../observability/observer.ts'
import { milliseconds } from '../options/checks.ts'
import { isIterable } from '../util/is-iterable.ts'
import type { Control } from './control.ts'
import { guarded } from './guard.ts'
import type { Publisher } from './publisher.ts'
import type { Rivals, StreamOptions, StreamResult, StreamSource, TokenStream } from './token-stream.ts'

/** Streams of text, such as the answers of a language model. */
export interface StreamCalls {
  /**
   * Publishes the text of a source in parts as it comes. The namespace needs the rule `stream: true`. Resolves when the
   * end is published. While Redis is down the text waits, for up to five minutes.
   * @param source The chunks of the text: an async iterable of strings, or a function that returns one.
   * @throws what the source throws; FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_CLOSING,
   * FST_CRWS_STREAM_TOO_LONG, FST_CRWS_STREAM_TAKEN if another call has resumed the same stream,
   * FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  stream (channel: string, source: StreamSource, options?: StreamOptions): Promise<StreamResult>
  /**
   * Stops a stream, or all streams of a channel, on any instance. Resolves when the command is stored. Does nothing if
   * there is none.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER,
   * FST_CRWS_REDIS_REFUSED
   */
  stopStream (channel: string, id?: string): Promise<void>
}

const FIELDS: readonly (keyof StreamOptions)[] = ['id', 'signal', 'batchDelay', 'resume']
const BATCH_DELAY = 50
const MAX_BATCH_DELAY = 1_000
const MAX_ID = 64
/** Bytes of a text at most. The last part of a stream has all of it. */
const MAX_BYTES = 131_072
/** Milliseconds by which clocks of instances may differ. */
const CLOCK_SKEW = 1_000
/**
 * Milliseconds for which nobody else resumes a stream: pages that see the same end ask at about the same time. This
 * only saves work: if clocks differ by more, the next call takes the stream over, and the one before stops.
 */
const TAKEN_FOR = 5_000

/** A stream, from its call on: it may be stopped before it publishes anything. */
class Running {
  readonly channel: string
  readonly id: string
  readonly startedAt = Date.now()
  ended: Promise<StreamResult> | undefined
  #stream: TokenStream | undefined
  #stopped: 'stopped' | 'interrupted' | undefined

  constructor (channel: string, id: string) {
    this.channel = channel
    this.id = id
  }

  run (stream: TokenStream, source: StreamSource): Promise<StreamResult> {
    this.#stream = stream
    if (this.#stopped !== undefined) stream.stop(this.#stopped)
    return stream.run(source)
  }

  stop (how: 'stopped' | 'interrupted'): void {
    this.#stopped ??= how
    this.#stream?.stop(how)
  }
}

/** Checked options. */
interface Checked {
  readonly id: string
  readonly signal: AbortSignal | undefined
  readonly batchDelay: number
  readonly resume: boolean
  readonly history: HistorySettings
}

/** The streams that this instance publishes. */
export class Streams {
  readonly #publisher: Publisher
  readonly #control: Control
  readonly #namespaces: ChannelNamespaces
  readonly #maxBytes: number
  readonly #running = new Set<Running>()
  #closing = false

  constructor (publisher: Publisher, control: Control, namespaces: ChannelNamespaces, maxBufferedBytes: number) {
    this.#publisher = publisher
    this.#control = control
    this.#namespaces = namespaces
    this.#maxBytes = Math.min(MAX_BYTES, Math.floor(maxBufferedBytes / 4))
    control.carry('stopStream', ({ channel, id, at }) => {
      for (const running of this.#running) {
        const meant = running.channel === channel && (id === undefined || running.id === id)
        // An instance that had lost Redis gets the command late, when it may publish another stream.
        if (meant && running.startedAt <= at + CLOCK_SKEW) running.stop('stopped')
      }
    })
  }

  async start (channel: string, source: StreamSource, options: StreamOptions = {}): Promise<StreamResult> {
    const checked = this.#check(channel, source, options)
    const { id, signal, resume } = checked
    if (this.#runs(channel, id)) {
      if (resume) throw new StreamTakenError(id)
      throw new InvalidArgumentError('id', inspect(id), `another id: this instance is already publishing a stream with this id in channel ${channel}`)
    }
    const running = new Running(channel, id)
    const stop = () => running.stop('stopped')
    if (signal?.aborted) stop()
    signal?.addEventListener('abort', stop, { once: true })
    this.#running.add(running)
    running.ended = this.#run(running, source, checked)
    return running.ended.finally(() => {
      signal?.removeEventListener('abort', stop)
      this.#running.delete(running)
    })
  }

  async #run (running: Running, source: StreamSource, { id, batchDelay, resume, history }: Checked): Promise<StreamResult> {
    const { channel } = running
    const { text, call, at } = resume ? await this.#take(channel, id, history) : { text: '', call: undefined, at: undefined }
    const { TokenStream } = await import('./token-stream.ts') // only an app with streams pays for it
    if (this.#closing) throw new ClosingError('stream')
    const publish = (part: StreamPart) => this.#publisher.publish(channel, encodePayload(part), { tags: tagsOf(id, call) })
    const rivals = (after: Position) => this.#rivals(channel, id, call, after)
    const stream = new TokenStream({ id, batchDelay, history, maxBytes: this.#maxBytes, text, at, publish, rivals })
    return running.run(stream, source)
  }

  async stop (channel: string, id: string | undefined): Promise<void> {
    if (id !== undefined) checkId(id)
    await this.#control.send({ type: 'stopStream', channel: checkChannel(channel), id, at: Date.now() })
  }

  /** Resolves when no stream is running. */
  async ended (): Promise<void> {
    await Promise.allSettled(Array.from(this.#running, ({ ended }) => ended))
  }

  /** Interrupts all streams, and starts no more. Resolves when their ends are published. */
  async close (): Promise<void> {
    this.#closing = true
    for (const running of this.#running) running.stop('interrupted')
    await this.ended()
  }

  #runs (channel: string, id: string): boolean {
    return Array.from(this.#running).some(running => running.channel === channel && running.id === id)
  }

  /**
   * Takes a stream over, and returns the text that is there. Several instances may try: all publish the same part with
   * the same key, which is published once, and the call whose part is in the history has the stream. Who tries a moment
   * later finds that part, and leaves the stream to the other.
   * @throws FST_CRWS_STREAM_TAKEN
   */
  async #take (channel: string, id: string, { size }: HistorySettings): Promise<{ text: string, call: string, at: Position }> {
    const { publications } = await this.#publisher.read(channel, { limit: size })
    let whole: StreamPart | undefined
    let last = 0
    let before: string | undefined
    let takenAt = -Infinity
    for (const publication of publications) {
      const part = partOf(publication)
      if (part?.stream !== id) continue
      whole = joinParts(whole, part)
      last = publication.offset
      const writer = resumedBy(publication)
      if (precedes(writer, before)) before = writer
      if (writer !== undefined) takenAt = publication.time
      if (part.end !== undefined) takenAt = -Infinity
    }
    if (Math.abs(Date.now() - takenAt) < TAKEN_FOR) throw new StreamTakenError(id)
    const text = whole?.from === 0 ? whole.text : ''
    const call = nextCall(before)
    const options = { tags: tagsOf(id, call), idempotencyKey: `resume ${id} ${last}` }
    const { offset, epoch } = await this.#publisher.publish(channel, encodePayload({ stream: id, from: 0, text }), options) as Position
    const read = await this.#publisher.read(channel, { limit: 1, since: { offset: offset - 1, epoch } })
    if (!read.publications.some(publication => resumedBy(publication) === call)) throw new StreamTakenError(id)
    return { text, call, at: { offset, epoch } }
  }

  /** Looks for parts of other calls. In a new epoch, which begins below the position, the next look finds them. */
  async #rivals (channel: string, id: string, call: string | undefined, after: Position): Promise<Rivals> {
    const query = { limit: Number.MAX_SAFE_INTEGER, since: { offset: after.offset, epoch: '' } }
    const { publications, offset, epoch } = await this.#publisher.read(channel, query)
    const others = publications.filter(publication => partOf(publication)?.stream === id).map(resumedBy).filter(other => other !== call)
    const winner = others.some(other => precedes(other, call))
    return { found: winner ? 'winner' : others.length > 0 ? 'loser' : 'none', offset, epoch }
  }

  #check (channel: string, source: StreamSource, options: StreamOptions): Checked {
    const { stream, history } = this.#namespaces.rules(checkChannel(channel))
    if (!stream || history === undefined) throw new InvalidArgumentError('channel', inspect(channel), 'a channel of a namespace with the rule stream: true')
    const allowed = 'an async iterable of strings, or a function that returns one'
    if (typeof source !== 'function' && !isIterable(source)) throw new InvalidArgumentError('source', inspect(source), allowed)
    checkFields('options of stream', options, FIELDS)
    const { id = randomUUID(), signal, batchDelay = BATCH_DELAY, resume = false } = options
    checkId(id)
    if (signal !== undefined && !(signal instanceof AbortSignal)) throw new InvalidArgumentError('signal', inspect(signal), 'an AbortSignal')
    const delay = milliseconds(batchDelay)
    if (delay === undefined || delay < 0 || delay > MAX_BATCH_DELAY) {
      throw new InvalidArgumentError('batchDelay', inspect(batchDelay), `a duration of at most ${MAX_BATCH_DELAY} ms, such as 50 or '50ms'`)
    }
    if (typeof resume !== 'boolean') throw new InvalidArgumentError('resume', inspect(resume), 'true or false')
    if (resume && options.id === undefined) throw new InvalidArgumentError('id', 'undefined', 'the id of the stream to resume')
    return { id, signal, batchDelay: delay, resume, history }
  }
}

function checkId (id: string): void {
  if (typeof id === 'string' && id !== '' && id.length <= MAX_ID && id.isWellFormed()) return
  throw new InvalidArgumentError('id', inspect(id), `a string of 1 to ${MAX_ID} characters`)
}

export function streamCalls (streams: Streams, observer: Observer): StreamCalls {
  return {
    stream: guarded(observer, 'stream', (channel, source, options) => streams.start(channel, source, options)),
    stopStream: guarded(observer, 'stopStream', (channel, id) => streams.stop(channel, id))
  }
}
