import { isOf, stampOf } from './payload.ts'
import { Receiver } from './receiver.ts'
import type { Publication, SubscribeResult } from './sdk-wire.ts'
import type { Stream } from './stream.ts'
import type { Tally } from './tally.ts'

/** A client in a channel: what arrived, and the position from which it recovers. */
export class SdkSubscription {
  readonly stream: Stream
  readonly receiver: Receiver
  /** The server has confirmed it on this connection. */
  active = false
  /** It was refused or ended for good. */
  ended = false
  readonly #run: string
  readonly #tally: Tally
  #recoverable = false
  #offset = 0
  #epoch = ''

  constructor (stream: Stream, run: string, tally: Tally) {
    this.stream = stream
    this.receiver = new Receiver(stream)
    this.#run = run
    this.#tally = tally
  }

  /** JSON of the request. */
  get request (): string {
    const channel = JSON.stringify(this.stream.name)
    if (!this.#recoverable) return `{"channel":${channel}}`
    return `{"channel":${channel},"recover":true,"offset":${this.#offset},"epoch":${JSON.stringify(this.#epoch)}}`
  }

  subscribed ({ recoverable = false, recovered = false, was_recovering: recovering = false, offset = 0, epoch = '', publications = [] }: SubscribeResult): void {
    this.receiver.begin()
    this.active = true
    this.#recoverable = recoverable
    this.#epoch = epoch
    if (recovering && recovered) this.#tally.recovered++
    else if (recovering) this.#tally.unrecovered++
    if (!(recovering && recovered)) this.#offset = offset
    for (const publication of publications) this.take(publication, true)
  }

  take ({ data, offset, epoch }: Publication, isRecovered = false): void {
    if (offset !== undefined && this.#recoverable) {
      if (offset !== this.#offset + 1) this.#tally.wrongOffsets++
      this.#offset = Math.max(offset, this.#offset)
      if (epoch !== undefined) this.#epoch = epoch
    }
    const stamp = stampOf(data)
    if (stamp === undefined || !isOf(stamp, this.#run, this.stream)) {
      this.#tally.foreign++
      return
    }
    this.#tally.arrived(this.receiver.take(stamp.number, stamp.settled))
    this.#tally.took(performance.now() - stamp.at, isRecovered)
  }

  end (): void {
    this.active = false
    this.ended = true
    this.receiver.end()
  }
}
