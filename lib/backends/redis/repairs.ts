import { setTimeout as wait } from 'node:timers/promises'
import type { Publication } from '../../model/publication.ts'
import type { RedisFeed } from './feed.ts'
import type { RedisHistory } from './history.ts'

/** Entries read at once. More are read in further steps, so that large ones do not fill the memory. */
const READ_LIMIT = 100
/** Milliseconds that a repair waits for slow subscribers, and after which it looks again. */
const PATIENCE = 250
const PAUSE = 10
/** Feeds that are repaired at the same time. */
const CONCURRENCY = 64
/** Milliseconds after which a failed repair is tried again. */
const RETRY = 1_000

/** Reads what feeds have missed from their streams, a few feeds at a time. */
export class Repairs {
  readonly #history: RedisHistory
  /** False for a feed whose channel was left. */
  readonly #isCurrent: (feed: RedisFeed) => boolean
  readonly #waiting = new Set<RedisFeed>()
  readonly #running = new Set<RedisFeed>()
  #closed = false

  constructor (history: RedisHistory, isCurrent: (feed: RedisFeed) => boolean) {
    this.#history = history
    this.#isCurrent = isCurrent
  }

  close (): void {
    this.#closed = true
  }

  /** Queues a feed if it needs a repair. */
  check (feed: RedisFeed): void {
    if (!feed.buffering || this.#running.has(feed) || !this.#isCurrent(feed)) return
    this.#waiting.add(feed)
    this.#startNext()
  }

  /** Compares the position of a quiet feed with its stream. */
  async verify (feed: RedisFeed): Promise<void> {
    if (feed.since === undefined || feed.buffering) return
    feed.verifiedAt = Date.now()
    feed.verify(await this.#history.read(feed.channel, { limit: 0 }))
    this.check(feed)
  }

  /** Repairs a feed. Rejects if Redis does not answer; then the feed still buffers. */
  async repair (feed: RedisFeed): Promise<void> {
    const { channel } = feed
    this.#running.add(feed)
    try {
      const { since, generation } = feed
      let read = await this.#history.read(channel, { limit: since === undefined ? 0 : READ_LIMIT, since })
      const newEpoch = since !== undefined && since.epoch !== read.epoch
      const behind = since !== undefined && !newEpoch && read.offset < since.offset
      if (newEpoch) read = await this.#history.read(channel, { limit: READ_LIMIT })
      if (!this.#isCurrent(feed)) return
      if (newEpoch) feed.resetTo({ offset: 0, epoch: read.epoch })
      if (behind) feed.resetTo(read)
      while (read.full && read.publications.length > 0) {
        await this.#replay(feed, read.publications)
        read = await this.#history.read(channel, { limit: READ_LIMIT, since: feed.since })
      }
      await this.#replay(feed, read.publications)
      feed.finishReplay(read, generation)
    } finally {
      this.#running.delete(feed)
    }
  }

  #startNext (): void {
    for (const feed of this.#waiting) {
      if (this.#running.size >= CONCURRENCY || this.#closed) return
      this.#waiting.delete(feed)
      // The connection may have broken once more meanwhile.
      this.repair(feed).then(() => this.check(feed), () => {
        // While Redis is down its return starts the next attempt; else it is slow.
        setTimeout(() => this.check(feed), RETRY).unref()
      }).finally(() => this.#startNext())
    }
  }

  /** Replays at the pace of the subscribers: what they missed in minutes is more than they can take at once. */
  async #replay (feed: RedisFeed, publications: Publication[]): Promise<void> {
    for (const publication of publications) {
      if (!feed.listener.canAccept()) await this.#untilAccepted(feed)
      feed.replay(publication)
    }
  }

  /**
   * Waits for slow subscribers, at most PATIENCE: one stuck client must not delay the rest, and will soon be closed
   * as slow.
   */
  async #untilAccepted ({ listener }: RedisFeed): Promise<void> {
    const latest = Date.now() + PATIENCE
    do await wait(PAUSE)
    while (!listener.canAccept() && Date.now() < latest)
  }
}
