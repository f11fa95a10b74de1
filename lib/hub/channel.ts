import type { ChannelListener } from '../model/broker.ts'
import { startOf } from '../model/channel-rules.ts'
import type { ChannelRules, Start } from '../model/channel-rules.ts'
import type { Batch, Frame, PublicationEncoder } from '../model/encoder.ts'
import type { Publication } from '../model/publication.ts'
import type { DeliveryObserver } from './delivery-observer.ts'
import type { HistoryReads } from './history-reads.ts'
import type { HubListener } from './listener.ts'
import type { Pending } from './pending.ts'
import { inSeveral } from './several.ts'
import { setApart, Steps } from './steps.ts'
import type { SubscribedChannel, Subscription } from './subscription.ts'

/**
 * Channels whose pending publications leave at the end of this turn of the event loop, which all apps of a process
 * share.
 */
let due = new Set<Channel>()
let flushes = 0

/** A channel on this instance: its subscriptions, and the publications that have not left yet. */
export class Channel implements ChannelListener, SubscribedChannel {
  readonly name: string
  /** Resolves when the broker delivers. Set by the hub. */
  ready: Promise<void> = Promise.resolve()
  /** undefined without history. */
  readonly reads: HistoryReads | undefined
  readonly start: Start
  readonly subscriptions = new Set<Subscription>()
  readonly joining = new Set<Subscription>()
  /** Handlers of the app; undefined while there is none. */
  listeners: Set<HubListener> | undefined
  /** Unix time in milliseconds at which the last subscription left. */
  emptySince = 0
  /** Publications that slow subscribers did not get, because a later one took their place. */
  skipped = 0
  readonly #batchDelay: number
  readonly #onlyLatest: boolean
  /** Bytes that one subscriber may recover. Pending publications leave at once when they have half of it. */
  readonly #maxRecovery: number
  readonly #observer: DeliveryObserver
  /** undefined unless the namespace has `delta`. */
  readonly #steps: Steps | undefined
  #pending: Pending | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (name: string, rules: ChannelRules, reads: HistoryReads | undefined, maxRecovery: number, observer: DeliveryObserver) {
    this.name = name
    this.reads = reads
    this.start = startOf(rules)
    this.#batchDelay = rules.batchDelay
    this.#onlyLatest = rules.slow === 'latest'
    this.#maxRecovery = maxRecovery
    this.#observer = observer
    this.#steps = rules.delta ? new Steps() : undefined
  }

  get empty (): boolean { return this.subscriptions.size === 0 && this.joining.size === 0 && this.listeners === undefined }

  admit (subscription: Subscription): void {
    this.joining.delete(subscription)
    this.subscriptions.add(subscription)
    this.#markSent(subscription) // it has buffered what is pending
  }

  remove (subscription: Subscription): void {
    this.joining.delete(subscription)
    this.subscriptions.delete(subscription)
    this.#steps?.behind.delete(subscription)
    if (this.empty) this.emptySince = Date.now()
  }

  addListener (listener: HubListener): void {
    this.listeners ??= new Set()
    this.listeners.add(listener)
  }

  removeListener (listener: HubListener): void {
    if (this.listeners?.delete(listener) && this.listeners.size === 0) this.listeners = undefined
    if (this.empty) this.emptySince = Date.now()
  }

  /** What arrives in one turn of the event loop, or within the batch delay, leaves together. */
  deliver (publication: Publication): void {
    if (publication.kind === 'join' || publication.kind === 'leave') {
      this.#sendEvent(publication)
    } else {
      for (const subscription of this.joining) subscription.buffer(publication)
      if (this.listeners !== undefined) for (const listener of this.listeners) listener.push(publication)
      if (this.#pending === undefined) {
        this.#pending = { before: this.#steps?.last, publications: [], bytes: 0, encoded: new Map(), excluded: undefined }
        if (this.#batchDelay > 0) this.#timer = setTimeout(makeDue, this.#batchDelay, this).unref()
        else if (due.add(this).size === 1) setImmediate(setImmediate, flushDue)
      }
      const pending = this.#pending
      pending.publications.push(publication)
      pending.bytes += publication.payload.length
      if (publication.except !== undefined) (pending.excluded ??= new Set()).add(publication.except)
      if (this.#steps !== undefined) this.#steps.last = publication
      for (const encoded of pending.encoded.values()) { // their batches end before this publication
        encoded.batches = []
        encoded.starts = []
      }
      // One larger piece would put every client over its limit at once.
      if (pending.bytes >= this.#maxRecovery / 2) this.flush()
    }
    if (this.#observer.recording) this.#observer.delivered(this.name, publication)
  }

  /** Sends what is pending to every subscriber: encoded and framed once per encoder, the same bytes for all. */
  flush (): void {
    const pending = this.#pending
    if (pending === undefined) return
    this.#pending = undefined
    due.delete(this)
    clearTimeout(this.#timer)
    if (pending.excluded !== undefined) setApart(this.subscriptions, pending, pending.excluded)
    if (this.#steps !== undefined) setApart(this.#steps.behind, pending)
    for (const subscription of this.subscriptions) {
      if (subscription.sentOf === undefined && subscription.recoveredTo === undefined && !this.#onlyLatest) {
        const { encoder, subscriber: { outbox } } = subscription
        outbox.writeBatch(pending.encoded.get(encoder)?.batches[0] ?? this.#batch(pending, encoder, 0))
      } else {
        this.#sendRest(subscription, pending)
      }
    }
  }

  flushTo (subscription: Subscription): void {
    if (this.#pending !== undefined) this.#sendRest(subscription, this.#pending)
  }

  follow (subscription: Subscription, received: Publication | undefined): void {
    this.#steps?.follow(subscription, received, this.#pending)
  }

  /** False while a subscriber's send buffer is over half its limit, or a handler of the app is too slow. */
  canAccept (): boolean {
    if (this.listeners !== undefined) for (const listener of this.listeners) if (!listener.canAccept()) return false
    if (this.#pending !== undefined) return true // less than a batch waits
    for (const { subscriber } of this.subscriptions) {
      subscriber.flush()
      if (subscriber.open && subscriber.outbox.bufferedBytes > this.#maxRecovery) return false
    }
    return true
  }

  missed (count: number, reason: string): void {
    this.#observer.missed(this.name, count, reason)
  }

  positionLost (): void {
    this.flush()
    for (const subscription of Array.from(this.subscriptions)) {
      subscription.recoveredTo = undefined
      subscription.subscriber.positionLost(this.name)
    }
  }

  /** Sends a subscriber what it did not get yet of the pending publications. */
  #sendRest (subscription: Subscription, pending: Pending): void {
    const from = subscription.sentOf === pending ? subscription.sentCount : 0
    const { encoder, subscriber: { id, outbox } } = subscription
    const count = pending.publications.length - from
    if (pending === this.#pending) this.#markSent(subscription)
    else if (subscription.sentOf === pending) subscription.sentOf = undefined
    if (count === 0) return
    let rest = pending.publications.slice(from).filter(publication => !subscription.hasAlready(publication) && publication.except !== id)
    if (this.#onlyLatest) rest = this.#unlessSlow(subscription, rest)
    const behind = this.#steps?.behind.has(subscription) === true
    if (rest.length === count) outbox.writeBatch(behind ? this.#start(pending, encoder, from) : this.#batch(pending, encoder, from))
    else if (rest.length > 0) outbox.writeBatch(this.#batchOf(pending, encoder, from, new Set(rest), behind))
    this.#steps?.sent(subscription, rest.at(-1) === pending.publications.at(-1))
  }

  #markSent (subscription: Subscription): void {
    subscription.sentOf = this.#pending
    subscription.sentCount = this.#pending?.publications.length ?? 0
  }

  #batch (pending: Pending, encoder: PublicationEncoder, from: number): Batch {
    const { publications, encoded } = pending
    let own = encoded.get(encoder)
    if (own === undefined) encoded.set(encoder, own = { frames: [], batches: [], starts: [] })
    const { frames, batches } = own
    for (let i = frames.length; i < publications.length; i++) {
      frames.push(encoder.publication(this.name, publications[i]!, publications[i - 1] ?? pending.before))
    }
    if (batches[from] === undefined) {
      const rest = frames.slice(from).filter(frame => frame !== undefined)
      batches[from] = { frames: encoder.join?.(rest) ?? rest, bytes: undefined, payloadBytes: 0 }
    }
    return batches[from]
  }

  /** The same for subscribers that are behind: one batch for all of them. */
  #start (pending: Pending, encoder: PublicationEncoder, from: number): Batch {
    this.#batch(pending, encoder, from)
    const { starts } = pending.encoded.get(encoder)!
    starts[from] ??= this.#batchOf(pending, encoder, from, new Set(pending.publications), true)
    return starts[from]
  }

  /** A batch of some of the pending publications, for one subscriber. What is encoded is encoded for all. */
  #batchOf (pending: Pending, encoder: PublicationEncoder, from: number, chosen: ReadonlySet<Publication>, behind: boolean): Batch {
    this.#batch(pending, encoder, from)
    const { frames } = pending.encoded.get(encoder)!
    const own: Frame[] = []
    let inFull = behind
    for (let i = from; i < frames.length; i++) {
      const publication = pending.publications[i]!
      const isChosen = chosen.has(publication)
      const frame = isChosen && inFull && encoder.patches ? encoder.publication(this.name, publication) : frames[i]
      if (isChosen && frame !== undefined) own.push(frame)
      inFull = !isChosen
    }
    return { frames: encoder.join?.(own) ?? own, bytes: undefined, payloadBytes: 0 }
  }

  /** Skips publications for a slow subscriber: of all that arrives while its socket is full it gets the last. */
  #unlessSlow (subscription: Subscription, publications: Publication[]): Publication[] {
    const { filter } = subscription
    const own = filter === undefined ? publications : publications.filter(filter)
    const newest = own.at(-1)
    if (newest === undefined) return own
    if (subscription.skipped !== undefined) this.skipped++
    subscription.skipped = undefined
    if (!subscription.subscriber.outbox.isCongested()) return publications
    this.skipped += own.length - 1
    subscription.skipped = newest
    return []
  }

  /** Sends a join or a leave to those who want to know, after what was published before. */
  #sendEvent (event: Publication): void {
    this.flush()
    const frames = new Map<PublicationEncoder, Frame | undefined>()
    for (const { subscriber, encoder, joinLeave } of this.subscriptions) {
      if (!joinLeave) continue
      if (!frames.has(encoder)) frames.set(encoder, encoder.event(this.name, event))
      const frame = frames.get(encoder)
      if (frame !== undefined) subscriber.write(frame)
    }
  }
}

/**
 * The second immediate runs after the event loop has read, without waiting, what lies ready in the sockets: that
 * leaves in the same write. Writing to hundreds of sockets takes longer than all else in a turn, so what is published
 * in it goes to Redis before.
 */
function makeDue (channel: Channel): void {
  if (due.add(channel).size === 1) setImmediate(setImmediate, flushDue)
}

/** Flushes with one write per connection, also for one that is subscribed to several of these channels. */
function flushDue (): void {
  const flushing = due
  due = new Set()
  const corked = flushing.size > 1 ? inSeveral(flushing, ++flushes) : []
  for (const subscriber of corked) subscriber.outbox.cork()
  try {
    for (const channel of flushing) {
      flushing.delete(channel)
      channel.flush()
    }
  } finally {
    for (const subscriber of corked) subscriber.outbox.uncork()
    for (const channel of flushing) makeDue(channel) // one channel has thrown: the others leave all the same
  }
}
