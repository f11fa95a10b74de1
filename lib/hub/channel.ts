import type { ChannelListener } from '../model/broker.ts'
import { startOf } from '../model/channel-rules.ts'
import type { ChannelRules, Start } from '../model/channel-rules.ts'
import type { Batch, Frame, PublicationEncoder } from '../model/encoder.ts'
import type { Publication } from '../model/publication.ts'
import type { HistoryReads } from './history-reads.ts'
import type { HubListener } from './listener.ts'
import type { Pending } from './pending.ts'
import type { Subscriber } from './subscriber.ts'
import type { SubscribedChannel, Subscription } from './subscription.ts'

/** What the hub tells of deliveries. */
export interface DeliveryObserver {
  /** False while nobody measures or traces deliveries: then `delivered` is not called. */
  readonly recording: boolean
  /** A publication was handed to the subscribers of this instance. */
  delivered (channel: string, publication: Publication): void
  /** `count` publications are lost for good. */
  missed (channel: string, count: number, reason: string): void
}

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
  readonly compressible: boolean
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
  #pending: Pending | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (name: string, rules: ChannelRules, reads: HistoryReads | undefined, maxRecovery: number, observer: DeliveryObserver) {
    this.name = name
    this.reads = reads
    this.start = startOf(rules)
    this.compressible = rules.compression
    this.#batchDelay = rules.batchDelay
    this.#onlyLatest = rules.slow === 'latest'
    this.#maxRecovery = maxRecovery
    this.#observer = observer
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
        this.#pending = { publications: [], bytes: 0, encoded: new Map(), excluded: undefined }
        if (this.#batchDelay > 0) this.#timer = setTimeout(makeDue, this.#batchDelay, this).unref()
        else if (due.add(this).size === 1) setImmediate(setImmediate, flushDue)
      }
      const pending = this.#pending
      pending.publications.push(publication)
      pending.bytes += publication.payload.length
      if (publication.except !== undefined) (pending.excluded ??= new Set()).add(publication.except)
      for (const encoded of pending.encoded.values()) encoded.batches = [] // they end before this publication
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
    if (pending.excluded !== undefined) this.#setApart(pending.excluded, pending)
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
    if (rest.length === count) outbox.writeBatch(this.#batch(pending, encoder, from))
    else if (rest.length > 0) outbox.writeBatch(this.#batchOf(pending, encoder, new Set(rest)))
  }

  /** Sends these subscribers their own batch in this flush, without a check for each of all the others. */
  #setApart (ids: ReadonlySet<string>, pending: Pending): void {
    for (const subscription of this.subscriptions) {
      if (!ids.has(subscription.subscriber.id) || subscription.sentOf === pending) continue
      subscription.sentOf = pending
      subscription.sentCount = 0
    }
  }

  #markSent (subscription: Subscription): void {
    subscription.sentOf = this.#pending
    subscription.sentCount = this.#pending?.publications.length ?? 0
  }

  #batch (pending: Pending, encoder: PublicationEncoder, from: number): Batch {
    const { publications, encoded } = pending
    let own = encoded.get(encoder)
    if (own === undefined) encoded.set(encoder, own = { frames: [], batches: [] })
    const { frames, batches } = own
    for (let i = frames.length; i < publications.length; i++) frames.push(encoder.publication(this.name, publications[i]!))
    if (batches[from] === undefined) {
      const rest = frames.slice(from).filter(frame => frame !== undefined)
      batches[from] = { frames: encoder.join?.(rest) ?? rest, bytes: undefined, payloadBytes: 0, compressible: this.compressible }
    }
    return batches[from]
  }

  /** A batch of some of the pending publications, for one subscriber. What is encoded is encoded for all. */
  #batchOf (pending: Pending, encoder: PublicationEncoder, chosen: ReadonlySet<Publication>): Batch {
    this.#batch(pending, encoder, 0)
    const { frames } = pending.encoded.get(encoder)!
    const own = frames.filter((frame, i) => frame !== undefined && chosen.has(pending.publications[i]!)) as Frame[]
    return { frames: encoder.join?.(own) ?? own, bytes: undefined, payloadBytes: 0, compressible: this.compressible }
  }

  /** Skips publications for a slow subscriber: of all that arrives while its socket is full it gets the last. */
  #unlessSlow (subscription: Subscription, publications: Publication[]): Publication[] {
    const newest = publications.at(-1)
    if (newest === undefined) return publications
    if (subscription.skipped !== undefined) this.skipped++
    subscription.skipped = undefined
    if (!subscription.subscriber.outbox.isCongested()) return publications
    this.skipped += publications.length - 1
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
  const corked = flushing.size > 1 ? inSeveral(flushing, ++flushes) : NONE
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

const NONE: ReadonlySet<Subscriber> = new Set()

/** Subscribers with subscriptions in more than one of these channels. */
function inSeveral (channels: ReadonlySet<Channel>, flush: number): ReadonlySet<Subscriber> {
  const several = new Set<Subscriber>()
  for (const { subscriptions } of channels) {
    for (const { subscriber } of subscriptions) {
      if (subscriber.flushedBy === flush) several.add(subscriber)
      else subscriber.flushedBy = flush
    }
  }
  return several
}
