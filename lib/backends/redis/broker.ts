import { setTimeout as wait } from 'node:timers/promises'
import { IDEMPOTENCY_TTL, POSITION_TTL, START_TIMEOUT } from '../../model/broker.ts'
import type { Broker, BrokerListener, ChannelListener, History, HistoryQuery, PublishSettings } from '../../model/broker.ts'
import { RedisNoAnswerError, UnrecoverablePositionError } from '../../model/errors.ts'
import { decodePublication, encodePublication, newEpoch } from '../../model/publication.ts'
import type { Position, Publication } from '../../model/publication.ts'
import { runScript } from './commands.ts'
import type { RedisCommands } from './commands.ts'
import { RedisFeed } from './feed.ts'
import type { RedisKeys } from './keys.ts'
import { publishOnce, publishWithHistory, readHistory } from './scripts.ts'
import type { RedisSubscriber } from './subscriber.ts'
import { within } from '../../util/timeout.ts'

/** Entries read at once when a feed is repaired; more are read in further steps, so that large ones do not fill the memory. */
const REPAIR_LIMIT = 100
/** ms that a repair waits for subscribers that are slow, and after which it looks again. */
const REPAIR_PATIENCE = 250
const REPAIR_PAUSE = 10
/** Feeds that are repaired at the same time. */
const REPAIR_CONCURRENCY = 64
/** ms after which a repair that failed is tried again. */
const REPAIR_RETRY = 1_000
/** ms after which the position of a quiet channel is compared with its stream. */
const POSITION_CHECK = 30_000
/** Channels without history whose sequence is remembered. */
const MAX_SEQUENCES = 10_000
const SPACE = 32

/** Joins all instances: publishes by one atomic script, receives by Pub/Sub, repairs from the stream what Pub/Sub has lost. */
export class RedisBroker implements Broker {
  readonly #commands: RedisCommands
  readonly #subscriber: RedisSubscriber
  readonly #keys: RedisKeys
  readonly #feeds = new Map<string, RedisFeed>()
  /** Feeds that wait for a repair, and those that are being repaired. */
  readonly #broken = new Set<RedisFeed>()
  readonly #repairing = new Set<RedisFeed>()
  readonly #sequences = new Map<string, number>()
  readonly #positionCheck: number
  #checking: NodeJS.Timeout | undefined
  #listener: BrokerListener | undefined
  #up = false
  #closed = false
  #started: () => void = () => {}

  constructor (commands: RedisCommands, subscriber: RedisSubscriber, keys: RedisKeys, positionCheck = POSITION_CHECK) {
    this.#commands = commands
    this.#subscriber = subscriber
    this.#keys = keys
    this.#positionCheck = positionCheck
  }

  get up (): boolean { return this.#up }

  async start (listener: BrokerListener): Promise<void> {
    this.#listener = listener
    const started = new Promise<void>(resolve => { this.#started = resolve })
    this.#commands.open(() => this.#linksChanged())
    this.#subscriber.open({
      message: (pubsub, bytes) => this.#receive(pubsub, bytes),
      lost: pubsub => this.#feeds.get(pubsub)?.lost(),
      restored: pubsub => this.#restored(this.#feeds.get(pubsub)),
      changed: () => this.#linksChanged()
    })
    this.#checking = setInterval(() => this.#checkPositions(Date.now()), this.#positionCheck / 3).unref()
    await within(START_TIMEOUT, started)
    if (!this.#up) listener.stateChanged(false, this.#reason)
  }

  async publish (channel: string, publication: Publication, { history, idempotencyKey }: PublishSettings): Promise<Partial<Position>> {
    const pubsub = this.#keys.pubsub(channel)
    const { publishCommand } = this.#commands
    const result = idempotencyKey === undefined ? [] : [this.#keys.result(channel, idempotencyKey)]
    if (history !== undefined) {
      const reply = await runScript(this.#commands, publishWithHistory,
        [this.#keys.stream(channel), this.#keys.position(channel), ...result],
        [encodePublication(publication), String(history.size), String(history.ttl), String(POSITION_TTL), newEpoch(), publishCommand, pubsub, String(IDEMPOTENCY_TTL)])
      return toPosition(reply as [number, string])
    }
    const [resultKey] = result
    if (resultKey !== undefined) {
      // Only Redis knows whether it is a repeat, and a number that does not go out would be missed by receivers.
      const encoded = encodePublication({ ...publication, sequence: 0 })
      const earlier = await runScript(this.#commands, publishOnce, [resultKey], [encoded, publishCommand, pubsub, String(IDEMPOTENCY_TTL)])
      return earlier === null ? {} : toPosition(earlier as [number, string])
    }
    // Joins and leaves may get lost: the presence list is what counts.
    const isEvent = publication.kind === 'join' || publication.kind === 'leave'
    const sequence = isEvent ? 0 : this.#nextSequence(channel)
    const encoded = encodePublication({ ...publication, sequence })
    try {
      await this.#commands.send(pubsub, [publishCommand, pubsub, Buffer.concat([NO_POSITION, encoded])])
      return {}
    } catch (error) {
      if (!(error instanceof RedisNoAnswerError)) this.#giveBackSequence(channel, sequence)
      throw error
    }
  }

  async subscribe (channel: string, hasHistory: boolean, listener: ChannelListener): Promise<void> {
    const pubsub = this.#keys.pubsub(channel)
    const feed = new RedisFeed(channel, hasHistory, listener)
    this.#feeds.set(pubsub, feed)
    try {
      await this.#subscriber.subscribe(pubsub)
      if (hasHistory) await this.#repair(feed)
      this.#check(feed)
    } catch (error) {
      this.unsubscribe(channel)
      throw error
    }
  }

  unsubscribe (channel: string): void {
    const pubsub = this.#keys.pubsub(channel)
    this.#feeds.delete(pubsub)
    this.#subscriber.unsubscribe(pubsub)
  }

  async history (channel: string, { limit, since, reverse }: HistoryQuery): Promise<History> {
    const { full, ...read } = await this.#read(channel, { limit, since, reverse })
    if (since !== undefined && since.epoch !== '' && since.epoch !== read.epoch) throw new UnrecoverablePositionError(channel)
    return read
  }

  async close (): Promise<void> {
    this.#closed = true
    clearInterval(this.#checking)
    await Promise.all([this.#commands.close(), this.#subscriber.close()])
  }

  get #reason (): string {
    return this.#commands.ready ? this.#subscriber.reason : this.#commands.reason
  }

  #linksChanged (): void {
    const up = this.#commands.ready && this.#subscriber.ready
    if (this.#closed || up === this.#up) return
    this.#up = up
    if (up) this.#started()
    this.#listener?.stateChanged(up, up ? '' : this.#reason)
    if (up) this.#feeds.forEach(feed => this.#check(feed))
  }

  #receive (pubsub: string, bytes: Buffer): void {
    const feed = this.#feeds.get(pubsub)
    if (feed === undefined) return this.#subscriber.unsubscribe(pubsub)
    const first = bytes.indexOf(SPACE)
    const second = bytes.indexOf(SPACE, first + 1)
    const publication = decodePublication(bytes.subarray(second + 1), Number(bytes.toString('latin1', 0, first)), bytes.toString('latin1', first + 1, second))
    // Somebody else writes to our keys.
    if (publication === undefined || Number.isNaN(publication.offset)) return feed.listener.missed(1, 'it is not in the form of this package')
    feed.receive(publication)
    if (feed.broken) this.#check(feed)
  }

  /** What a repair read before this moment may have been too early. */
  #restored (feed: RedisFeed | undefined): void {
    feed?.lost()
    this.#check(feed)
  }

  #checkPositions (now: number): void {
    if (!this.#up) return // its return checks them all
    for (const feed of this.#feeds.values()) {
      if (feed.since === undefined || feed.broken || now - feed.checkedAt < this.#positionCheck) continue
      feed.checkedAt = now
      this.#read(feed.channel, { limit: 0 }).then(top => {
        feed.check(top)
        this.#check(feed)
      }, () => {}) // the next round tries again
    }
  }

  /** Puts a feed that needs it in line for a repair. */
  #check (feed: RedisFeed | undefined): void {
    if (feed === undefined || !feed.broken || this.#repairing.has(feed) || !this.#isCurrent(feed)) return
    this.#broken.add(feed)
    this.#repairNext()
  }

  /** Not if nobody is in its channel any more. */
  #isCurrent (feed: RedisFeed): boolean {
    return this.#feeds.get(this.#keys.pubsub(feed.channel)) === feed
  }

  #repairNext (): void {
    for (const feed of this.#broken) {
      if (this.#repairing.size >= REPAIR_CONCURRENCY || this.#closed) return
      this.#broken.delete(feed)
      // Its link may have broken once more meanwhile.
      this.#repair(feed).then(() => this.#check(feed), () => {
        // While Redis is away its return starts the next attempt; else it is slow.
        setTimeout(() => this.#check(feed), REPAIR_RETRY).unref()
      }).finally(() => this.#repairNext())
    }
  }

  async #repair (feed: RedisFeed): Promise<void> {
    const { channel } = feed
    this.#repairing.add(feed)
    try {
      const { since, generation } = feed
      let read = await this.#read(channel, { limit: since === undefined ? 0 : REPAIR_LIMIT, since })
      const restarted = since !== undefined && since.epoch !== read.epoch
      const behind = since !== undefined && !restarted && read.offset < since.offset
      if (restarted) read = await this.#read(channel, { limit: REPAIR_LIMIT })
      if (!this.#isCurrent(feed)) return
      if (restarted) feed.restart({ offset: 0, epoch: read.epoch })
      if (behind) feed.restart(read)
      while (read.full && read.publications.length > 0) {
        await this.#catchUp(feed, read.publications)
        read = await this.#read(channel, { limit: REPAIR_LIMIT, since: feed.since })
      }
      await this.#catchUp(feed, read.publications)
      feed.repair(read, generation)
    } finally {
      this.#repairing.delete(feed)
    }
  }

  /** At the pace of the subscribers: what they missed in minutes is more than they can take at once. */
  async #catchUp (feed: RedisFeed, publications: Publication[]): Promise<void> {
    for (const publication of publications) {
      if (!this.#keepsUp(feed)) await this.#untilTaken(feed)
      feed.catchUp(publication)
    }
  }

  #keepsUp ({ listener }: RedisFeed): boolean {
    return listener.canAccept()
  }

  /** Who takes nothing holds up the others for a moment only; with what comes then it is soon closed. */
  async #untilTaken (feed: RedisFeed): Promise<void> {
    const latest = Date.now() + REPAIR_PATIENCE
    do await wait(REPAIR_PAUSE)
    while (!this.#keepsUp(feed) && Date.now() < latest)
  }

  async #read (channel: string, { limit, since, reverse }: HistoryQuery): Promise<History & { full: boolean }> {
    const [from, to] = reverse
      ? [since === undefined ? '+' : String(Math.max(0, since.offset - 1)), '-']
      : [since === undefined ? '-' : String(since.offset + 1), '+']
    const reply = await runScript(this.#commands, readHistory, [this.#keys.stream(channel), this.#keys.position(channel)],
      [newEpoch(), String(POSITION_TTL), String(limit), reverse ? '1' : '0', from, to], true)
    const [offset, epochBytes, entries] = reply as [number, Buffer, [id: Buffer, fields: [Buffer, Buffer]][]]
    const epoch = epochBytes.toString()
    const publications = entries.map(([id, [, bytes]]) => decodePublication(bytes, Number.parseInt(id.toString()), epoch))
    return { publications: publications.filter(publication => publication !== undefined), offset, epoch, full: entries.length === limit }
  }

  /** Starts again at 1 for a channel it has forgotten, which receivers take for what it is. */
  #nextSequence (channel: string): number {
    if (this.#sequences.size >= MAX_SEQUENCES && !this.#sequences.has(channel)) this.#sequences.clear()
    const sequence = (this.#sequences.get(channel) ?? 0) + 1
    this.#sequences.set(channel, sequence)
    return sequence
  }

  /** A number under which nothing went out is used again, as receivers would miss it; unless later ones are under way, which they would take for old. */
  #giveBackSequence (channel: string, sequence: number): void {
    if (sequence > 0 && this.#sequences.get(channel) === sequence) this.#sequences.set(channel, sequence - 1)
  }
}

function toPosition ([offset, epoch]: [number, string]): Partial<Position> {
  return offset === 0 ? {} : { offset, epoch }
}

/** In place of offset and epoch, in channels without history. */
const NO_POSITION = Buffer.from('0  ')
