import { Deadlines } from '../../util/deadlines.ts'
import type { Expiring } from '../../util/deadlines.ts'
import type { HttpStream } from './http-stream.ts'
import { Posts } from './posts.ts'
import type { PostAnswer } from './posts.ts'

/** Milliseconds for which a session is known whose client was told of the end: what it has sent is on its way. */
const KNOWN_AFTER_END = 10_000

/** The streams of this instance, by the secret that a client names in its posts. */
export class StreamSessions {
  readonly #deadlines: Deadlines
  /** 'ended': the client was told so. */
  readonly #bySecret = new Map<string, Posts | 'ended'>()

  constructor (deadlines: Deadlines) {
    this.#deadlines = deadlines
  }

  /** `connect`: the commands with which the client has opened the stream. */
  add (secret: string, stream: HttpStream, connect: Buffer, binary: boolean): void {
    const posts = new Posts(stream, connect, binary, this.#deadlines)
    this.#bySecret.set(secret, posts)
    stream.once('close', () => {
      posts.closed()
      this.#bySecret.delete(secret)
      if (!stream.told) return
      this.#bySecret.set(secret, 'ended')
      const forget: Expiring = { expiresAt: Date.now() + KNOWN_AFTER_END, expire: () => this.#bySecret.delete(secret) }
      this.#deadlines.add(forget)
    })
  }

  /**
   * Takes what a client has posted. A client connects again as soon as it hears 'gone'. One that was told of the end
   * does not hear it: its post may be answered before it reads in the stream that it is to stay away.
   */
  take (secret: string, data: Buffer, binary: boolean): Promise<PostAnswer> | PostAnswer {
    const posts = this.#bySecret.get(secret)
    return posts === 'ended' ? posts : posts?.take(data, binary) ?? 'gone'
  }
}
