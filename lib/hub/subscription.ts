import type { History } from '../model/broker.ts'
import type { Start } from '../model/channel-rules.ts'
import { framesOf } from '../model/encoder.ts'
import type { PublicationEncoder } from '../model/encoder.ts'
import type { Position, Publication } from '../model/publication.ts'
import { acrossGap, newestOf, onlyThose, recover, recoverNewest, topOf, withStreams } from './recovery.ts'
import type { Recovery } from './recovery.ts'
import type { Subscriber } from './subscriber.ts'

/** Bytes around a publication's data in a reply: names, offset. An estimate. */
const FRAMING_BYTES = 32

/** What a subscription needs of its channel. */
export interface SubscribedChannel {
  readonly start: Start
  /** From now on the subscription receives what is published. */
  admit (subscription: Subscription): void
  remove (subscription: Subscription): void
  /** The client has received this one last, by another way than the channel's batches. */
  follow (subscription: Subscription, received: Publication | undefined): void
  /** Sends this subscription what is pending in the channel. */
  flushTo (subscription: Subscription): void
}

/** What a token has set for one subscription in place of the rules of its namespace. undefined: the rule counts. */
export interface Overrides {
  /** Whether the subscriber is in the presence list. */
  readonly presence?: boolean | undefined
  /** Whether others are told that the subscriber joins and leaves. */
  readonly joinLeave?: boolean | undefined
  /** Whether the subscriber is told who joins and leaves. */
  readonly pushJoinLeave?: boolean | undefined
}

/** What a subscription on behalf of the app has from the token of its connection. */
export interface GivenByToken {
  readonly info?: unknown
  readonly overrides?: Overrides | undefined
}

/**
 * One connection in one channel. Its states: `new` (known to the connection alone, while permission is asked for),
 * `joining` (in the channel; publications are buffered from the broker's subscribe until the reply is sent, so that
 * nothing is missed and nothing precedes the reply), `live`, `ended`.
 */
export class Subscription {
  readonly subscriber: Subscriber
  /** True for the publications that are for the subscriber; undefined: all are. The encoder leaves out the same. */
  filter: ((publication: Publication) => boolean) | undefined
  /** Turns publications of this channel into frames. Subscriptions with the same one share their batches. */
  encoder: PublicationEncoder
  readonly channel: string
  state: 'new' | 'joining' | 'live' | 'ended' = 'new'
  /** Position from which the subscriber recovers. */
  since: Position | undefined
  /**
   * True if the app subscribed the connection: the client must not unsubscribe, and reconnects where others
   * resubscribe.
   */
  readonly serverSide: boolean
  /** True if the subscriber is told of joins and leaves. */
  joinLeave = false
  overrides: Overrides | undefined
  /** What others see of this subscriber in this channel. */
  info: unknown = undefined
  /** Unix time in milliseconds; Infinity: never. */
  expiresAt = Infinity
  /** True if the client brings a new token before the subscription expires. */
  refreshable = false

  /** Position up to which history was sent to a new subscriber. Live publications at or below it are duplicates. */
  recoveredTo: Position | undefined
  /** The channel's pending publications, of which this subscriber already has the first `sentCount`. */
  sentOf: object | undefined
  sentCount = 0
  /** In a channel with `slow: 'latest'`: the publication to send when the socket has drained. */
  skipped: Publication | undefined

  #joined: SubscribedChannel | undefined
  #buffered: Publication[] | undefined
  #history: History | undefined

  constructor (subscriber: Subscriber, channel: string, serverSide: boolean) {
    this.subscriber = subscriber
    this.encoder = subscriber.encoder
    this.channel = channel
    this.serverSide = serverSide
  }

  /** Enters a channel of the hub. */
  join (channel: SubscribedChannel): void {
    this.state = 'joining'
    this.#joined = channel
    this.#buffered = []
  }

  /** Keeps a publication that arrives before the reply. */
  buffer (publication: Publication): void {
    this.#buffered?.push(publication)
  }

  /** Takes the channel's history, in which everything published before the read is found. */
  read (history: History): void {
    this.#history = this.#joined?.start === 'newest' ? newestOf(history, this.filter) : history
  }

  /** The history is read after this offset. Infinity: only the position is read. */
  get readsAfter (): number {
    return this.#joined === undefined || this.#joined.start === 'missed' ? this.since?.offset ?? Infinity : 0
  }

  /** Bytes of the publications that it would recover. */
  get recoveryBytes (): number {
    const after = this.readsAfter
    const missed = this.#history?.publications.filter(({ offset }) => offset > after) ?? []
    const own = this.filter === undefined ? missed : missed.filter(this.filter)
    return own.reduce((sum, publication) => sum + bytesOf(publication), 0)
  }

  /** True if it would recover from `since`, if it were admitted now. */
  get recovers (): boolean {
    return this.#history !== undefined && this.#recover(this.#history, [])?.recovered === true
  }

  /** Recovers nothing, because it missed more than it may be sent at once. */
  giveUpRecovery (): void {
    if (this.#history !== undefined) this.#history = { ...this.#history, publications: [] }
  }

  /**
   * Goes live, synchronously: the caller sends what the subscriber starts with in the same turn. Returns undefined if
   * there is a gap, so that the subscriber must start again. With `onlyRecovered` a subscriber that did not recover
   * is not admitted.
   */
  admit (onlyRecovered = false): Recovery | undefined {
    const [history, arrived] = this.#take()
    const recovery = history && this.#recover(history, arrived)
    if (onlyRecovered && recovery?.recovered === false) return recovery
    return this.#goLive(history, arrived, recovery)
  }

  /** Goes live likewise, with what there is if there is a gap: for a subscriber that nobody can tell to start again. */
  admitAcrossGap (): Recovery {
    const [history, arrived] = this.#take()
    const recovery = history && (this.#recover(history, arrived) ?? acrossGap(this.since, history, arrived))
    return this.#goLive(history, arrived, recovery)!
  }

  /**
   * True if this live publication was already sent as part of the history, or is from before it. The channel clears
   * `recoveredTo` ahead of the first publication of a newer epoch: one of another epoch is of an older one.
   */
  hasAlready ({ offset, epoch }: Publication): boolean {
    const position = this.recoveredTo
    if (position === undefined || offset === 0) return false
    if (offset <= position.offset || epoch !== position.epoch) return true
    this.recoveredTo = undefined
    return false
  }

  #take (): [history: History | undefined, arrived: Publication[]] {
    const { id } = this.subscriber
    const arrived = this.#buffered?.filter(({ offset, except }) => offset > 0 || except !== id) ?? []
    this.#buffered = []
    return [this.#history, arrived]
  }

  #goLive (history: History | undefined, arrived: Publication[], recovery: Recovery | undefined): Recovery | undefined {
    const { id } = this.subscriber
    this.#history = this.#buffered = undefined
    this.state = 'live'
    this.recoveredTo = recovery && { offset: topOf(recovery), epoch: recovery.epoch }
    this.#joined?.admit(this)
    const started = history === undefined
      ? this.#filtered({ recovered: false, missed: [], live: arrived, offset: 0, epoch: '' })
      : recovery && this.#start(recovery, history)
    if (started === undefined || this.#joined?.start === 'newest') return started
    return onlyThose(started, ({ except }) => except !== id)
  }

  #recover (history: History, arrived: Publication[]): Recovery | undefined {
    if (this.#joined?.start === 'newest') return recoverNewest(this.since, history, arrived, this.filter)
    return recover(this.since, history, arrived)
  }

  /** What the filter lets through; of streams the text so far. */
  #start (recovery: Recovery, history: History): Recovery {
    const { filter } = this
    const filtered = this.#filtered(recovery)
    if (this.#joined?.start !== 'streams') return filtered
    return withStreams(filtered, filter === undefined ? history : { ...history, publications: history.publications.filter(filter) })
  }

  #filtered (recovery: Recovery): Recovery {
    return this.filter === undefined ? recovery : onlyThose(recovery, this.filter)
  }

  /**
   * Says what the client received last, if the encoder patches: what comes next is encoded against it. To be called
   * when what the subscriber starts with is sent.
   */
  follow (received: Publication | undefined): void {
    if (this.state === 'live') this.#joined?.follow(this, received)
  }

  /** Sends what is pending in its channel, ahead of a message that must come after it. */
  flush (): void {
    if (this.state === 'live') this.#joined?.flushTo(this)
  }

  /**
   * Sends the newest publication that a slow subscriber skipped. Called when its socket has drained or is about to
   * close.
   */
  sendSkipped (): void {
    const { skipped, subscriber, channel, encoder } = this
    if (skipped === undefined) return
    this.skipped = undefined
    subscriber.outbox.writeBatch({ frames: framesOf(encoder, channel, [skipped]), bytes: undefined, payloadBytes: 0 })
    if (encoder.patches) this.follow(skipped)
  }

  /** Leaves the channel, in whichever state. The subscriber gets what was published before. */
  end (): void {
    if (this.state === 'ended') return
    if (this.subscriber.open) {
      this.flush()
      this.sendSkipped()
    }
    this.state = 'ended'
    this.#joined?.remove(this)
    this.#history = this.#buffered = undefined
  }
}

/** Bytes that a publication takes in a reply, about. */
function bytesOf ({ payload, tags, publisher }: Publication): number {
  const extra = tags === undefined && publisher === undefined ? 0 : JSON.stringify({ tags, publisher }).length
  return payload.length + extra + FRAMING_BYTES
}
