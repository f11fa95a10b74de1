import type { Deadlines, Expiring } from '../../util/deadlines.ts'
import { idsOf } from '../../protocols/centrifugal/streams.ts'
import type { HttpStream } from './http-stream.ts'

/** Milliseconds that a post waits for the one before it. One that waits for a slow handler is answered then. */
const HOLD = 2_000
/** Posts, and bytes, of one stream that may wait for an earlier one; and as much again for a slow handler. */
export const MAX_WAITING = 64
const MAX_WAITING_BYTES = 262_144

/**
 * What became of a post. 'full': it was dropped, as too many wait. 'ended': it was dropped, as the client is told that
 * its stream has ended. 'gone': there is no such stream.
 */
export type PostAnswer = 'taken' | 'full' | 'ended' | 'gone'

/** A post that cannot be handed over yet. */
interface Waiting extends Expiring {
  readonly data: Buffer
  readonly binary: boolean
  /** The ids of its commands; undefined if none has one. */
  readonly ids: { readonly first: number, readonly last: number } | undefined
  readonly answer: (answer: PostAnswer) => void
}

/**
 * What a client sends over one stream. Its posts may overtake each other on their way, but its commands take effect in
 * the order of their ids: one that comes too early waits for the one that is missing. `send` has no id, so it does not
 * wait.
 */
export class Posts {
  readonly #stream: HttpStream
  readonly #deadlines: Deadlines
  /** The id with which the next post begins. */
  #next: number
  /** Posts that came too early, by their first id. */
  readonly #early: Waiting[] = []
  #earlyBytes = 0
  /** Posts that were given to a stream that is paused. */
  readonly #paused = new Set<Waiting>()
  #pausedBytes = 0

  /** `connect`: the commands with which the client has opened the stream. */
  constructor (stream: HttpStream, connect: Buffer, binary: boolean, deadlines: Deadlines) {
    this.#stream = stream
    this.#deadlines = deadlines
    this.#next = (idsOf(connect, binary)?.last ?? 0) + 1
  }

  /**
   * Resolves when the post was handed over, or after two seconds if a slow handler keeps it waiting. At once if it came
   * too early: until its turn it would hold a place among the requests, and among the letters of another instance.
   */
  take (data: Buffer, binary: boolean): Promise<PostAnswer> | PostAnswer {
    if (!this.#stream.open) return 'ended'
    if (this.#paused.size >= MAX_WAITING || this.#pausedBytes >= MAX_WAITING_BYTES) return 'full'
    const ids = idsOf(data, binary)
    return new Promise(resolve => {
      const post: Waiting = { data, binary, ids, answer: resolve, expiresAt: Date.now() + HOLD, expire: () => this.#expired(post) }
      if (ids === undefined || ids.first <= this.#next) return this.#handOver(post)
      this.#early.push(post)
      resolve('taken')
      this.#early.sort((a, b) => a.ids!.first - b.ids!.first)
      this.#earlyBytes += data.length
      this.#deadlines.add(post)
      while (this.#early.length > MAX_WAITING || this.#earlyBytes > MAX_WAITING_BYTES) this.#skip()
    })
  }

  /** The stream has ended. */
  closed (): void {
    for (const post of this.#early.splice(0)) this.#answer(post)
    for (const post of this.#paused) this.#answer(post)
  }

  #answer (post: Waiting): void {
    this.#deadlines.delete(post)
    post.answer('taken')
  }

  /** What a post waits for has not come: it is handed over all the same, with those that follow it. */
  #expired (post: Waiting): void {
    while (this.#early.includes(post)) this.#skip()
    post.answer('taken')
  }

  /** Waits no longer for what is missing. */
  #skip (): void {
    this.#next = this.#early[0]!.ids!.first
    this.#handOverNext()
  }

  #handOverNext (): void {
    while (this.#early.length > 0 && this.#early[0]!.ids!.first <= this.#next) {
      const post = this.#early.shift()!
      this.#earlyBytes -= post.data.length
      this.#handOver(post)
    }
  }

  #handOver (post: Waiting): void {
    const { data, binary, ids } = post
    this.#next = Math.max(this.#next, (ids?.last ?? 0) + 1)
    if (this.#stream.isPaused) this.#handOverLater(post)
    else {
      this.#stream.receive(data, binary)
      this.#answer(post)
    }
    this.#handOverNext()
  }

  #handOverLater (post: Waiting): void {
    this.#paused.add(post)
    this.#pausedBytes += post.data.length
    this.#deadlines.add(post)
    this.#stream.receive(post.data, post.binary).then(() => {
      this.#paused.delete(post)
      this.#pausedBytes -= post.data.length
      this.#answer(post)
    })
  }
}
