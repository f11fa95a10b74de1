import { IDEMPOTENCY_TTL, POSITION_TTL, START_TIMEOUT } from '../../model/broker.ts'
import type {
  Broker, BrokerListener, ChannelListener, History, HistoryQuery, HistorySettings, PublishSettings
} from '../../model/broker.ts'
import { RedisNoAnswerError, UnrecoverablePositionError } from '../../model/errors.ts'
import { newEpoch } from '../../model/publication.ts'
import type { Position, Publication } from '../../model/publication.ts'
import { settledWithin } from '../../util/timeout.ts'
import type { RedisCommands } from './commands.ts'
import { RedisFeed } from './feed.ts'
import type { FeedOwner } from './feed.ts'
import { RedisHistory } from './history.ts'
import type { RedisKeys } from './keys.ts'
import { KnownPositions } from './known-positions.ts'
import { NOT_CONNECTED_YET } from './link.ts'
import { needsSomebody } from './login.ts'
import { Repairs } from './repairs.ts'
import { runScript } from './script-runner.ts'
import { beginEpoch, publishOnce, publishWithHistory } from './scripts.ts'
import type { RedisSubscriber, SubscriberListener } from './subscriber.ts'
import { encodeAroundSequence, encodePublication, NO_POSITION } from './wire-format.ts'

/** Milliseconds without a publication after which a channel's position is compared with its stream. */
const POSITION_CHECK = 30_000
/**
 * Milliseconds after which an instance without history for a channel makes sure again that nobody recovers over what
 * it publishes.
 */
const EPOCH_INTERVAL = 10_000
/** Channels whose `Outgoing` is kept. */
const MAX_OUTGOING = 10_000
const MAX_TOLD = 10

/** A channel without history that this instance publishes to. */
interface Outgoing {
  readonly pubsub: string
  /** Sequence of the last publication. */
  sequence: number
  /**
   * Unix time in milliseconds from which the next publication ends the epoch again, in case another instance keeps
   * history for this channel.
   */
  beginEpochAt: number
}

/**
 * Connects all instances. With history it publishes by one atomic script, receives over Pub/Sub, and reads from the
 * stream what Pub/Sub has lost.
 */
export class RedisBroker implements Broker, SubscriberListener, FeedOwner {
  readonly #commands: RedisCommands
  readonly #subscriber: RedisSubscriber
  readonly #keys: RedisKeys
  readonly #known: KnownPositions
  readonly #history: RedisHistory
  readonly #repairs: Repairs
  /** By Pub/Sub channel. */
  readonly #feeds = new Map<string, RedisFeed>()
  readonly #outgoing = new Map<string, Outgoing>()
  readonly #positionCheck: number
  #checking: NodeJS.Timeout | undefined
  #listener: BrokerListener | undefined
  #up = false
  /** The reasons that were told since it went down; as they may come from the server, not without end. */
  readonly #told = new Set<string>()
  #closed = false
  #started: () => void = () => {}

  constructor (commands: RedisCommands, subscriber: RedisSubscriber, keys: RedisKeys, positionCheck = POSITION_CHECK) {
    this.#commands = commands
    this.#subscriber = subscriber
    this.#keys = keys
    this.#known = new KnownPositions(channel => this.#feeds.get(keys.pubsub(channel))?.since)
    this.#history = new RedisHistory(commands, keys, this.#known, (channel, count) => this.#lost(channel, count))
    this.#repairs = new Repairs(this.#history, feed => this.#feeds.get(feed.pubsub) === feed)
    this.#positionCheck = positionCheck
  }

  get up (): boolean { return this.#up }

  async start (listener: BrokerListener): Promise<void> {
    this.#listener = listener
    const started = new Promise<void>(resolve => { this.#started = resolve })
    this.#commands.open(() => this.changed())
    this.#subscriber.open(this)
    this.#checking = setInterval(() => this.#verifyQuiet(Date.now()), this.#positionCheck / 3).unref()
    await settledWithin(started, START_TIMEOUT)
    if (!this.#up) this.#tell(false)
  }

  async publish (channel: string, publication: Publication, { history, idempotencyKey }: PublishSettings): Promise<Partial<Position>> {
    if (history) return this.#publishWithHistory(channel, publication, history, idempotencyKey)
    // Joins and leaves have no sequence: losing one is harmless, because the presence list is authoritative.
    const isEvent = publication.kind === 'join' || publication.kind === 'leave'
    const outgoing = isEvent ? undefined : this.#outgoing.get(channel) ?? this.#remember(channel)
    const pubsub = outgoing?.pubsub ?? this.#keys.pubsub(channel)
    if (outgoing !== undefined && history === undefined && publication.time >= outgoing.beginEpochAt) this.#beginEpoch(channel, outgoing)
    if (idempotencyKey !== undefined) return this.#publishOnce(channel, publication, idempotencyKey)
    const sequence = outgoing === undefined ? 0 : ++outgoing.sequence
    try {
      await this.#commands.send(pubsub, [this.#commands.publishCommand, pubsub, encodePublication(publication, sequence, NO_POSITION)])
      return {}
    } catch (error) {
      // Receivers would report an unused sequence as a gap, so it is reused if Redis certainly did not publish it. It
      // is kept if later ones are in flight: receivers would take the next publication for an old one.
      if (outgoing?.sequence === sequence && !(error instanceof RedisNoAnswerError)) outgoing.sequence--
      throw error
    }
  }

  async subscribe (channel: string, hasHistory: boolean, listener: ChannelListener): Promise<void> {
    const feed = new RedisFeed(channel, this.#keys.pubsub(channel), hasHistory, listener, this)
    this.#feeds.set(feed.pubsub, feed)
    try {
      await this.#subscriber.subscribe(feed.pubsub, feed.receive)
      if (hasHistory) await this.#repairs.repair(feed)
      this.#repairs.check(feed)
    } catch (error) {
      this.#leave(feed)
      throw error
    }
  }

  unsubscribe (channel: string): void {
    const feed = this.#feeds.get(this.#keys.pubsub(channel))
    if (feed !== undefined) this.#leave(feed)
  }

  async history (channel: string, query: HistoryQuery): Promise<History> {
    const { full, base, previous, ...read } = await this.#history.read(channel, query)
    const { since } = query
    if (since !== undefined && since.epoch !== '' && since.epoch !== read.epoch) throw new UnrecoverablePositionError(channel)
    return read
  }

  async removeHistory (channel: string): Promise<void> {
    const stream = this.#keys.stream(channel)
    await this.#commands.send(stream, ['DEL', stream])
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#repairs.close()
    clearInterval(this.#checking)
    await Promise.all([this.#commands.close(), this.#subscriber.close()])
  }

  gapFound (feed: RedisFeed): void {
    // Messages may arrive a moment before the link is ready. Their listeners may want to subscribe: `restored` is next.
    if (this.#subscriber.isReady(feed.pubsub)) this.#repairs.check(feed)
  }

  leftOver ({ pubsub, receive }: RedisFeed): void {
    this.#subscriber.unsubscribe(pubsub, receive)
  }

  lost (pubsub: string): void {
    this.#feeds.get(pubsub)?.markGap()
  }

  restored (pubsub: string): void {
    const feed = this.#feeds.get(pubsub)
    if (feed === undefined) return
    feed.markGap() // a repair that has read already may have read too early
    this.#repairs.check(feed)
  }

  changed (): void {
    const up = this.#commands.ready && this.#subscriber.ready
    if (this.#closed) return
    if (up === this.#up) return up ? undefined : this.#tellNewReason()
    this.#up = up
    if (up) this.#started()
    this.#tell(up)
    if (up) this.#feeds.forEach(feed => this.#repairs.check(feed))
  }

  #tell (up: boolean): void {
    const reason = up ? '' : this.#reason
    this.#told.clear()
    if (!up) this.#told.add(reason)
    this.#listener?.stateChanged(up, reason)
  }

  /**
   * A connection that broke may be refused afterwards: a password, or a certificate, has changed. Each reason is told
   * once, since several nodes may refuse for different ones, with every attempt.
   */
  #tellNewReason (): void {
    const reason = this.#reason
    if (this.#told.size === 0 || this.#told.size >= MAX_TOLD || this.#told.has(reason)) return
    const nothingTold = this.#told.size === 1 && this.#told.has(NOT_CONNECTED_YET)
    if (!nothingTold && !needsSomebody(reason)) return
    this.#told.add(reason)
    this.#listener?.stillDown?.(reason)
  }

  get #reason (): string {
    return this.#commands.ready ? this.#subscriber.reason : this.#commands.reason
  }

  async #publishWithHistory (
    channel: string, publication: Publication, { size, ttl }: HistorySettings, idempotencyKey: string | undefined
  ): Promise<Partial<Position>> {
    const pubsub = this.#keys.pubsub(channel)
    const result = idempotencyKey === undefined ? [] : [this.#keys.result(channel, idempotencyKey)]
    const keys: [string, ...string[]] = [this.#keys.stream(channel), this.#keys.position(channel), ...result]
    const reply = await runScript(this.#commands, publishWithHistory, keys, [
      encodePublication(publication), String(size), String(ttl), String(POSITION_TTL), this.#commands.publishCommand, pubsub,
      String(IDEMPOTENCY_TTL), newEpoch(), ...this.#known.argumentsOf(channel, true)
    ])
    const [offset, epoch, lost, first] = reply as [number, string, number, string?]
    if (offset === 0) return {}
    if (first === undefined) {
      const { instance, time } = publication
      const ended = this.#known.see(channel, { offset, epoch, instance, time })
      this.#lost(channel, ended ? Math.max(1, lost) : lost)
    } else {
      const [time, instance = ''] = first.split(' ')
      this.#known.seeEarlier(channel, { offset, epoch, instance, time: Number(time) })
    }
    return { offset, epoch }
  }

  /** A feed that has delivered something reports it itself, as soon as it sees the new epoch. */
  #lost (channel: string, count: number): void {
    if (count <= 0 || (this.#feeds.get(this.#keys.pubsub(channel))?.since?.offset ?? 0) > 0) return
    this.#listener?.missed(channel, count, 'Redis has lost publications that it had stored')
  }

  async #publishOnce (channel: string, publication: Publication, idempotencyKey: string): Promise<Partial<Position>> {
    const pubsub = this.#keys.pubsub(channel)
    const keys: [string, string] = [this.#keys.result(channel, idempotencyKey), this.#keys.sequences(channel)]
    const reply = await runScript(this.#commands, publishOnce, keys, [
      ...encodeAroundSequence(publication), publication.instance, this.#commands.publishCommand, pubsub, String(IDEMPOTENCY_TTL)
    ])
    const [offset, epoch] = (reply ?? [0, '']) as [number, string]
    return offset === 0 ? {} : { offset, epoch }
  }

  /** Sent ahead of the publication, in the same turn. If it fails, the next publication sends it again. */
  #beginEpoch (channel: string, outgoing: Outgoing): void {
    outgoing.beginEpochAt = Date.now() + EPOCH_INTERVAL
    runScript(this.#commands, beginEpoch, [this.#keys.position(channel)], [newEpoch()]).catch(() => { outgoing.beginEpochAt = 0 })
  }

  /** A channel that was dropped here starts again at sequence 1. Receivers take a 1 for a new start, not for a gap. */
  #remember (channel: string): Outgoing {
    if (this.#outgoing.size >= MAX_OUTGOING) this.#outgoing.clear()
    const outgoing = { pubsub: this.#keys.pubsub(channel), sequence: 0, beginEpochAt: 0 }
    this.#outgoing.set(channel, outgoing)
    return outgoing
  }

  #leave (feed: RedisFeed): void {
    feed.close()
    if (this.#feeds.get(feed.pubsub) === feed) this.#feeds.delete(feed.pubsub)
    this.#subscriber.unsubscribe(feed.pubsub, feed.receive)
  }

  #verifyQuiet (now: number): void {
    if (!this.#up) return // every feed is checked when Redis is back
    for (const feed of this.#feeds.values()) {
      if (now - feed.verifiedAt >= this.#positionCheck) this.#repairs.verify(feed).catch(() => {})
    }
  }
}
