import { setTimeout as wait } from 'node:timers/promises'
import type { Publication } from '../../model/publication.ts'
import type { RedisFeed } from './feed.ts'
import type { RedisHistory } from './history.ts'

/** Publications per read. A long gap takes several reads, so that large publications do not fill the memory. */
const READ_LIMIT = 100
/** Reads the position, and the publication there. */
const NEWEST = { limit: 1, reverse: true }
/** Milliseconds that a repair waits for slow subscribers before each publication. */
const PATIENCE = 250
/** Milliseconds between two looks at slow subscribers. */
const PAUSE = 10
/** Repairs that run at the same time. */
const CONCURRENCY = 64
/** Milliseconds before a failed repair is retried. */
const RETRY = 1_000

/** Repairs feeds: reads from their streams what they have missed, `CONCURRENCY` feeds at a time. */
export class Repairs {
  readonly #history: RedisHistory
  /** Returns false for a feed whose channel was unsubscribed. */
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

  /** Queues a repair if the feed needs one. */
  check (feed: RedisFeed): void {
    if (!feed.buffering || this.#running.has(feed) || !this.#isCurrent(feed)) return
    this.#waiting.add(feed)
    this.#startNext()
  }

  /** Compares the position of a quiet feed with its stream, and queues a repair if the feed is behind. */
  async verify (feed: RedisFeed): Promise<void> {
    if (feed.since === undefined || feed.buffering) return
    feed.verifiedAt = Date.now()
    feed.verify(await this.#history.read(feed.channel, { limit: 0 }))
    this.check(feed)
  }

  /** Repairs a feed. Rejects with a coded error if Redis is down; the feed then keeps buffering. */
  async repair (feed: RedisFeed): Promise<void> {
    const { channel } = feed
    this.#running.add(feed)
    try {
      const { since, generation } = feed
      let read = await this.#history.read(channel, since === undefined ? NEWEST : { limit: READ_LIMIT, since })
      if (!this.#isCurrent(feed)) return
      if (since === undefined) return feed.finishReplay(read, generation)
      if (since.epoch !== read.epoch) {
        feed.beginEpoch(read)
        read = await this.#history.read(channel, { limit: READ_LIMIT, since: feed.since })
        if (!this.#isCurrent(feed)) return
      }
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
      // The connection may have broken again during the repair.
      this.repair(feed).then(() => this.check(feed), () => {
        // If Redis is down, its return starts the next attempt. This retry is for a slow Redis.
        setTimeout(() => this.check(feed), RETRY).unref()
      }).finally(() => this.#startNext())
    }
  }

  /** Replays at the pace of the subscribers: minutes of missed publications would overflow their send buffers. */
  async #replay (feed: RedisFeed, publications: Publication[]): Promise<void> {
    for (const publication of publications) {
      if (!feed.listener.canAccept()) await this.#untilAccepted(feed)
      feed.replay(publication)
    }
  }

  /** Waits for slow subscribers, at most `PATIENCE`: a stuck client must not delay the rest. It is soon closed. */
  async #untilAccepted ({ listener }: RedisFeed): Promise<void> {
    const latest = Date.now() + PATIENCE
    do await wait(PAUSE)
    while (!listener.canAccept() && Date.now() < latest)
  }
}
