import { reconnectsAfter } from '../../model/close-codes.ts'
import { Client } from './client.ts'
import type { Run } from './client.ts'
import { payload } from './payload.ts'
import { SdkSubscription } from './sdk-subscription.ts'
import { isTemporary, repliesIn, RESUBSCRIBE, TOKEN_EXPIRED, wordsOf } from './sdk-wire.ts'
import type { Push, Reply, ReplyError } from './sdk-wire.ts'
import type { Stream } from './stream.ts'

/** Milliseconds that an SDK waits for a ping beyond the announced interval. */
const MAX_PING_DELAY = 10_000
/** Delay before a subscribe that failed for the moment, as the official SDKs have it at first. */
const RESUBSCRIBE_DELAY = 500

/** What waits for a reply. */
type Waiting =
  | { readonly stream: Stream, readonly number: number }
  | { readonly subscription: SdkSubscription }
  | 'connect'

/** A client of the Centrifugal protocol in JSON: what centrifuge-js does, as far as a load test needs it. */
export class SdkClient extends Client {
  readonly subscriptions: ReadonlyMap<string, SdkSubscription>
  readonly #waiting = new Map<number, Waiting>()
  #id = 0
  #token: string | undefined
  #answersPings = false
  /** Milliseconds without a message after which the connection is dead; Infinity if the server does not ping. */
  #silence = Infinity

  constructor (run: Run, index: number, streams: readonly Stream[]) {
    super(run, index)
    this.subscriptions = new Map(streams.map(stream => [stream.name, new SdkSubscription(stream, run.id, run.tally)]))
  }

  override mayPublish ({ name }: Stream): boolean {
    return this.ready && this.subscriptions.get(name)?.active === true && this.flows
  }

  override publish (stream: Stream): void {
    const { run } = this
    const settled = stream.settled
    const number = stream.take()
    const data = payload({ run: run.id, stream: stream.index, number, settled, at: performance.now() }, run.options.size)
    run.tally.sent++
    this.send(this.#command({ stream, number }, `"publish":{"channel":${JSON.stringify(stream.name)},"data":${data}}`))
  }

  protected override async prepare (): Promise<void> {
    this.#token ??= await this.run.tokenOf(this.index)
  }

  /** All in one frame, as centrifuge-js sends it. */
  protected override onOpen (): void {
    const token = this.#token === undefined ? '' : `"token":${JSON.stringify(this.#token)},`
    const connect = this.#command('connect', `"connect":{${token}"name":"load"}`)
    const wanted = Array.from(this.subscriptions.values()).filter(subscription => !subscription.ended)
    this.send([connect, ...wanted.map(subscription => this.#subscribe(subscription))].join('\n'))
  }

  protected override onMessage (text: string): void {
    if (this.ready) this.expectWithin(this.#silence)
    const replies = repliesIn(text)
    if (replies === undefined) return this.giveUp('what the server sends is not the protocol of the SDKs')
    for (const reply of replies) {
      if (reply.push !== undefined) this.#push(reply.push)
      else if (reply.id !== undefined) this.#answered(reply.id, reply)
      else if (this.#answersPings) this.send('{}')
    }
  }

  protected override onEnd (): void {
    this.#silence = Infinity
    for (const subscription of this.subscriptions.values()) subscription.active = false
    for (const waiting of this.#waiting.values()) {
      if (waiting === 'connect' || !('number' in waiting)) continue
      waiting.stream.doubted(waiting.number)
      this.run.tally.unanswered++
    }
    this.#waiting.clear()
  }

  protected override onGone (): void {
    for (const subscription of this.subscriptions.values()) subscription.end()
  }

  protected override isFinal (code: number): boolean {
    return !reconnectsAfter(code)
  }

  #command (waiting: Waiting, request: string): string {
    this.#waiting.set(++this.#id, waiting)
    return `{"id":${this.#id},${request}}`
  }

  #subscribe (subscription: SdkSubscription): string {
    return this.#command({ subscription }, `"subscribe":${subscription.request}`)
  }

  #answered (id: number, reply: Reply): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (waiting === undefined) return // of a server that answers twice
    if (waiting === 'connect') this.#connected(reply)
    else if ('number' in waiting) this.#published(waiting.stream, waiting.number, reply.error)
    else if (reply.error === undefined) waiting.subscription.subscribed(reply.subscribe ?? {})
    else this.#notSubscribed(waiting.subscription, reply.error)
  }

  #connected ({ error, connect = {} }: Reply): void {
    if (error === undefined) {
      this.becomeReady()
      this.#answersPings = connect.pong === true
      this.#silence = connect.ping === undefined ? Infinity : connect.ping * 1_000 + MAX_PING_DELAY
      this.expectWithin(this.#silence)
      return
    }
    if (error.code === TOKEN_EXPIRED && this.run.options.tokenSecret !== undefined) this.#token = undefined // the next is signed anew
    else if (!isTemporary(error)) return this.giveUp(wordsOf(error))
    this.cut(wordsOf(error))
  }

  #published (stream: Stream, number: number, error: ReplyError | undefined): void {
    const { tally } = this.run
    if (error === undefined) {
      tally.acknowledged++
      stream.acknowledged(number)
    } else {
      tally.publishErrors.add(wordsOf(error))
      stream.doubted(number)
    }
  }

  #notSubscribed (subscription: SdkSubscription, error: ReplyError): void {
    this.run.tally.subscribeErrors.add(wordsOf(error))
    if (isTemporary(error)) this.#subscribeLater(subscription)
    else subscription.end()
  }

  #subscribeLater (subscription: SdkSubscription): void {
    const id = this.#id
    this.run.schedule.after(RESUBSCRIBE_DELAY * (1 + this.run.random()), () => {
      // After a reconnect in between it was asked for with the connect.
      if (this.ready && !subscription.active && !this.#isAsked(subscription, id)) this.send(this.#subscribe(subscription))
    })
  }

  /** Whether a subscribe with an id above this one waits for its reply. */
  #isAsked (subscription: SdkSubscription, since: number): boolean {
    return Array.from(this.#waiting).some(([id, waiting]) => {
      return id > since && waiting !== 'connect' && 'subscription' in waiting && waiting.subscription === subscription
    })
  }

  #push ({ channel = '', pub, unsubscribe }: Push): void {
    const subscription = this.subscriptions.get(channel)
    if (subscription === undefined) { // the app has subscribed the client to more
      if (pub !== undefined) this.run.tally.foreign++
    } else if (pub !== undefined) {
      subscription.take(pub)
    } else if (unsubscribe !== undefined) {
      this.run.tally.unsubscribed.add(wordsOf({ code: unsubscribe.code, message: unsubscribe.reason ?? '' }))
      subscription.active = false
      if (unsubscribe.code < RESUBSCRIBE) subscription.end()
      else this.#subscribeLater(subscription)
    }
  }
}
