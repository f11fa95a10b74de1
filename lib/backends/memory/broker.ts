import { IDEMPOTENCY_TTL, POSITION_TTL, UNPUBLISHED_TTL } from '../../model/broker.ts'
import type { Broker, BrokerListener, ChannelListener, History, HistoryQuery, PublishSettings } from '../../model/broker.ts'
import { UnrecoverablePositionError } from '../../model/errors.ts'
import { newEpoch } from '../../model/publication.ts'
import type { Position, Publication } from '../../model/publication.ts'

/** A channel's history. */
interface Stream {
  readonly epoch: string
  /** Offset of the last publication; 0 before the first. */
  top: number
  entries: Publication[]
  /** Unix time in milliseconds at which the entries expire. */
  entriesUntil: number
  /** Unix time in milliseconds at which epoch and offset expire. */
  positionUntil: number
}

/** Result of a publish with an idempotency key. */
interface Result {
  readonly position: Partial<Position>
  /** Unix time in milliseconds at which it expires. */
  readonly until: number
}

/** Milliseconds between two sweeps. A sweep only frees memory: nothing expired is returned, swept or not. */
const SWEEP_INTERVAL = 10_000

/** Broker of a single instance, without Redis. */
export class MemoryBroker implements Broker {
  readonly up = true
  /** Nothing is ever lost here, so a listener is told of deliveries alone. */
  readonly #subscribed = new Map<string, Pick<ChannelListener, 'deliver'>>()
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
    if (history) {
      const stream = this.#stream(channel, now)
      publication.offset = ++stream.top
      stream.positionUntil = now + POSITION_TTL
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

  async subscribe (channel: string, _history: boolean, listener: Pick<ChannelListener, 'deliver'>): Promise<void> {
    this.#subscribed.set(channel, listener)
  }

  unsubscribe (channel: string): void {
    this.#subscribed.delete(channel)
  }

  async history (channel: string, { limit, since, reverse, until = 0, maxBytes }: HistoryQuery): Promise<History> {
    const { epoch, top, entries } = this.#stream(channel, Date.now())
    if (since !== undefined && since.epoch !== '' && since.epoch !== epoch) throw new UnrecoverablePositionError(channel)
    const [after, before] = reverse ? [until, since?.offset ?? Infinity] : [since?.offset ?? 0, Infinity]
    const wanted = entries.filter(({ offset }) => offset > after && offset < before)
    if (reverse) wanted.reverse()
    return { publications: withinBytes(wanted.slice(0, limit), maxBytes), offset: top, epoch }
  }

  async removeHistory (channel: string): Promise<void> {
    const stream = this.#streams.get(channel)
    if (stream !== undefined) stream.entries = []
  }

  async close (): Promise<void> {
    clearInterval(this.#sweeper)
  }

  /** Returns a channel's stream without expired entries. The position of a subscribed channel never expires. */
  #stream (channel: string, now: number): Stream {
    let stream = this.#streams.get(channel)
    if (stream === undefined || (stream.positionUntil <= now && !this.#subscribed.has(channel))) {
      stream = { epoch: newEpoch(), top: 0, entries: [], entriesUntil: 0, positionUntil: 0 }
      this.#streams.set(channel, stream)
    }
    if (stream.entriesUntil <= now) stream.entries = []
    stream.positionUntil = now + (stream.top > 0 ? POSITION_TTL : UNPUBLISHED_TTL)
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

/** The first publications, while their payloads have at most `maxBytes`; always one. */
function withinBytes (publications: Publication[], maxBytes = Infinity): Publication[] {
  let bytes = 0
  const end = publications.findIndex(({ payload }) => (bytes += payload.length) > maxBytes)
  return end === -1 ? publications : publications.slice(0, Math.max(1, end))
}
