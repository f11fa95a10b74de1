import type { ChannelNamespaces, ChannelRules } from '../../model/channel-rules.ts'
import { clientErrors, DisconnectError, ReplyError, unsubscribeCodes } from './errors.ts'
import type { Command, CommandData } from './schema.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { connect, refresh } from './connect.ts'
import { memberOf } from '../../core/subscriptions.ts'
import type { Subscriptions } from '../../core/subscriptions.ts'
import type { Connections } from '../../core/connections.ts'
import type { Subscription } from '../../hub/subscription.ts'
import type { Observer } from '../../observability/observer.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'
import type { Rate } from '../../util/token-bucket.ts'
import type { Presence } from '../../model/presence.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Payload } from '../../model/publication.ts'
import type { Publisher, PublishOptions } from '../../core/publisher.ts'
import { clientInfo, payloadOf, replyPublication } from './replies.ts'
import { channelOf, dataOf, isForUser, payloadOfCommand } from './requests.ts'
import type { Done } from './requests.ts'
import { endOf } from './session.ts'
import type { SdkSession } from './session.ts'
import { subRefresh, subscribe } from './subscribe.ts'
import { TokenBucket } from '../../util/token-bucket.ts'
import type { Tokens } from '../../options/token-options.ts'

/** In the order in which the first one that is there counts. */
export const commandNames = ['connect', 'ping', 'subscribe', 'unsubscribe', 'publish', 'presence', 'presence_stats', 'history', 'rpc', 'send', 'refresh', 'sub_refresh'] as const
export type CommandName = typeof commandNames[number]

type Request<Name extends CommandName> = NonNullable<Command[Name]>
/** Publications in one answer to `history`. */
const MAX_HISTORY = 300
/** Publications of one connection that Redis has not acknowledged yet; with so many under way the next one waits until the last of them is. */
const MAX_PUBLISHING = 64
/** Channels of one connection whose publish rate is remembered. */
const MAX_BUCKETS = 256

/** What SDK clients can ask for. Each command answers by `done`, or throws what it answers instead. */
export class Commands {
  readonly options: ResolvedOptions
  readonly connections: Connections
  readonly subscriptions: Subscriptions
  readonly tokens: Tokens | undefined
  readonly observer: Observer
  readonly #namespaces: ChannelNamespaces
  readonly #publisher: Publisher
  readonly #presence: Presence

  constructor (
    options: ResolvedOptions, connections: Connections, subscriptions: Subscriptions, namespaces: ChannelNamespaces, publisher: Publisher, presence: Presence,
    tokens: Tokens | undefined, observer: Observer
  ) {
    this.options = options
    this.connections = connections
    this.subscriptions = subscriptions
    this.tokens = tokens
    this.observer = observer
    this.#namespaces = namespaces
    this.#publisher = publisher
    this.#presence = presence
  }

  rules (channel: string): ChannelRules {
    return this.#namespaces.rules(channel)
  }

  /** @throws for a namespace that the host did not name. */
  knownRules (channel: string): ChannelRules {
    const rules = this.#namespaces.find(channel)
    if (rules === undefined) throw new ReplyError(clientErrors.unknownChannel)
    return rules
  }

  connect (session: SdkSession, request: Request<'connect'>, done: Done): Promise<void> {
    return connect(this, session, request, done)
  }

  refresh (session: SdkSession, request: Request<'refresh'>, done: Done): Promise<void> {
    return refresh(this, session, request, done)
  }

  subscribe (session: SdkSession, request: Request<'subscribe'>, done: Done): Promise<void> {
    return subscribe(this, session, request, done)
  }

  sub_refresh (session: SdkSession, request: Request<'sub_refresh'>, done: Done): Promise<void> {
    return subRefresh(this, session, request, done)
  }

  /** In the schema for old times' sake: pings are empty messages. */
  async ping (): Promise<void> {
    throw new ReplyError(clientErrors.notAvailable)
  }

  async unsubscribe (session: SdkSession, request: Request<'unsubscribe'>, done: Done): Promise<void> {
    const { channel = '' } = request
    if (channel === '') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
    const { connection } = session
    // Whatever its name, the client is not in there afterwards; SDKs take an error here for a broken connection.
    await connection.turns.take(channel, async () => {
      const subscription = connection.subscriptions.get(channel)
      if (subscription?.serverSide === false) await this.subscriptions.end(connection, subscription)
      done({})
    })
  }

  /** The next command does not wait for Redis: what it publishes is sent after this, and so comes after it. */
  async publish (session: SdkSession, request: Request<'publish'>, done: Done, next: () => void): Promise<void> {
    const channel = channelOf(request)
    if (request.type) throw new ReplyError(clientErrors.notAvailable)
    const { connection } = session
    if (request.data === undefined) throw new ReplyError(clientErrors.badRequest)
    await connection.turns.settled(channel)
    const { payload, options } = await this.#mayPublish(session, channel, request.data)
    const stored = this.#publisher.publish(channel, payload, options, memberOf(connection, connection.subscriptions.get(channel)?.info))
    if (++session.publishing < MAX_PUBLISHING) next()
    try {
      await stored
    } finally {
      session.publishing--
    }
    done({})
  }

  async presence (session: SdkSession, request: Request<'presence'>, done: Done): Promise<void> {
    const members = await this.#presence.list(await this.#subscribedChannel(session, request, 'presence'))
    done({ presence: Object.fromEntries(members.map(member => [member.client, clientInfo(member)])) })
  }

  async presence_stats (session: SdkSession, request: Request<'presence_stats'>, done: Done): Promise<void> {
    const { clients, users } = await this.#presence.stats(await this.#subscribedChannel(session, request, 'presence'))
    done({ num_clients: clients, num_users: users })
  }

  async history (session: SdkSession, request: Request<'history'>, done: Done): Promise<void> {
    const channel = await this.#subscribedChannel(session, request, 'history')
    const { limit = 0, since, reverse = false } = request
    const position = since === undefined ? undefined : { offset: since.offset ?? 0, epoch: since.epoch ?? '' }
    if (reverse && position?.offset === 0) throw new ReplyError(clientErrors.badRequest)
    const { publications, offset, epoch } = await this.#publisher.read(channel, { limit: limit < 0 ? MAX_HISTORY : Math.min(limit, MAX_HISTORY), since: position, reverse })
    done({ publications: publications.map(replyPublication), epoch, offset })
  }

  async rpc (session: SdkSession, request: Request<'rpc'>, done: Done): Promise<void> {
    const { onRpc } = this.options
    if (onRpc === undefined) throw new ReplyError(clientErrors.notAvailable)
    const data = payloadOf(await onRpc(session.connection, request.method ?? '', dataOf(request.data)))
    done(data === undefined ? {} : { data })
  }

  async send (session: SdkSession, request: Request<'send'>): Promise<void> {
    const { onMessage } = this.options
    if (onMessage === undefined) throw new DisconnectError('unsupported')
    await onMessage(session.connection, dataOf(request.data))
  }

  /** Ends a client-side subscription from here. */
  drop (session: SdkSession, subscription: Subscription, why: { code: number, reason: string }): void {
    const { channel } = subscription
    this.subscriptions.end(session.connection, subscription)
    session.push({ channel, unsubscribe: why })
  }

  /** Ends subscriptions that were not refreshed. */
  expire (session: SdkSession, now: number): void {
    session.nextExpiry = Infinity
    for (const subscription of Array.from(session.connection.subscriptions.values())) {
      const end = endOf(subscription)
      if (now >= end) this.drop(session, subscription, unsubscribeCodes.expired)
      else session.nextExpiry = Math.min(session.nextExpiry, end)
    }
  }

  /** A channel of which the rules say that it has this, and to which the client is subscribed. */
  async #subscribedChannel (session: SdkSession, request: { channel?: string }, feature: 'presence' | 'history'): Promise<string> {
    const channel = channelOf(request)
    if (!this.knownRules(channel)[feature]) throw new ReplyError(clientErrors.notAvailable)
    await session.connection.turns.settled(channel) // its subscribe may be in the same frame
    if (session.connection.subscriptions.get(channel)?.state !== 'live') throw new ReplyError(clientErrors.permissionDenied)
    return channel
  }

  /** What is published, if the rules and the host allow it. */
  async #mayPublish (session: SdkSession, channel: string, sent: CommandData): Promise<{ payload: Payload, options: PublishOptions }> {
    const { connection } = session
    const { publish, publishLimit } = this.knownRules(channel)
    const data = dataOf(sent)
    const allowed = isForUser(channel, connection.user) && (typeof publish === 'function' ? await publish(connection, channel, data) : publish)
    if (!allowed) throw new ReplyError(clientErrors.permissionDenied)
    if (publishLimit !== undefined && !takeOne(session.publishBuckets, channel, publishLimit)) throw new ReplyError(clientErrors.tooManyRequests)
    const change = await this.options.onPublish?.(connection, channel, data)
    if (change === false) throw new ReplyError(clientErrors.permissionDenied)
    if (typeof change !== 'object' || change === null) return { payload: payloadOfCommand(sent), options: {} }
    const { data: changed, ...options } = change
    return { payload: changed === undefined ? payloadOfCommand(sent) : encodePayload(changed), options }
  }
}

function takeOne (buckets: Map<string, TokenBucket>, channel: string, limit: Rate): boolean {
  let bucket = buckets.get(channel)
  if (bucket === undefined) {
    if (buckets.size >= MAX_BUCKETS) buckets.delete(buckets.keys().next().value!) // the oldest
    buckets.set(channel, bucket = new TokenBucket(limit, Date.now()))
  }
  return bucket.take(Date.now())
}
