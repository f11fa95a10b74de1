import { IDEMPOTENCY_TTL, POSITION_TTL } from '../../model/broker.ts'
import type { Broker, BrokerListener, ChannelListener, History, HistoryQuery, PublishSettings } from '../../model/broker.ts'
import { UnrecoverablePositionError } from '../../model/errors.ts'
import { newEpoch } from '../../model/publication.ts'
import type { Position, Publication } from '../../model/publication.ts'

interface Stream {
  readonly epoch: string
  top: number
  entries: Publication[]
  /** Unix time in ms at which the entries, and later the position, are forgotten. */
  entriesUntil: number
  positionUntil: number
}

interface Result {
  readonly position: Partial<Position>
  readonly until: number
}

/** ms between two rounds that free what has expired. It is never seen before that either. */
const SWEEP_INTERVAL = 10_000

/** The broker of a single instance: the same contract without Redis. */
export class MemoryBroker implements Broker {
  readonly up = true
  readonly #subscribed = new Map<string, ChannelListener>()
  readonly #streams = new Map<string, Stream>()
  readonly #results = new Map<string, Result>()
  #sweeper: NodeJS.Timeout | undefined

  async start (_listener: BrokerListener): Promise<void> {
    this.#sweeper = setInterval(() => this.#sweep(Date.now()), SWEEP_INTERVAL).unref()
  }

  async publish (channel: string, publication: Publication, { history, idempotencyKey }: PublishSettings): Promise<Partial<Position>> {
    const now = Date.now()
    const resultKey = idempotencyKey === undefined ? '' : `${channel}\n${idempotencyKey}`
    const earlier = this.#results.get(resultKey)
    if (earlier !== undefined && earlier.until > now) return earlier.position
    let position: Partial<Position> = {}
    if (history !== undefined) {
      const stream = this.#stream(channel, now)
      publication.offset = ++stream.top
      publication.epoch = stream.epoch
      stream.entries.push(publication)
      if (stream.entries.length > history.size) stream.entries.shift()
      stream.entriesUntil = now + history.ttl
      position = { offset: publication.offset, epoch: publication.epoch }
    }
    if (resultKey !== '') this.#results.set(resultKey, { position, until: now + IDEMPOTENCY_TTL })
    this.#subscribed.get(channel)?.deliver(publication)
    return position
  }

  async subscribe (channel: string, _history: boolean, listener: ChannelListener): Promise<void> {
    this.#subscribed.set(channel, listener)
  }

  unsubscribe (channel: string): void {
    this.#subscribed.delete(channel)
  }

  async history (channel: string, { limit, since, reverse }: HistoryQuery): Promise<History> {
    const { epoch, top, entries } = this.#stream(channel, Date.now())
    if (since !== undefined && since.epoch !== '' && since.epoch !== epoch) throw new UnrecoverablePositionError(channel)
    const isWanted = ({ offset }: Publication) => since === undefined || (reverse ? offset < since.offset : offset > since.offset)
    const wanted = entries.filter(isWanted)
    if (reverse) wanted.reverse()
    return { publications: wanted.slice(0, limit), offset: top, epoch }
  }

  async close (): Promise<void> {
    clearInterval(this.#sweeper)
  }

  #stream (channel: string, now: number): Stream {
    let stream = this.#streams.get(channel)
    if (stream === undefined || (stream.positionUntil <= now && !this.#subscribed.has(channel))) {
      stream = { epoch: newEpoch(), top: 0, entries: [], entriesUntil: 0, positionUntil: 0 }
      this.#streams.set(channel, stream)
    }
    if (stream.entriesUntil <= now) stream.entries = []
    stream.positionUntil = now + POSITION_TTL
    return stream
  }

  #sweep (now: number): void {
    for (const [channel, stream] of this.#streams) {
      if (stream.entriesUntil <= now) stream.entries = []
      if (stream.positionUntil <= now && !this.#subscribed.has(channel)) this.#streams.delete(channel)
    }
    for (const [key, { until }] of this.#results) {
      if (until <= now) this.#results.delete(key)
    }
  }
}
