import { namespaceOf } from '../model/channel-rules.ts'
import type { ChannelNamespaces, ChannelRules } from '../model/channel-rules.ts'
import { clientErrors, ReplyError } from '../model/error-replies.ts'
import { encodePayload } from '../model/publication.ts'
import type { Payload } from '../model/publication.ts'
import type { AnyChannelData } from '../model/realtime-types.ts'
import { checkChange } from '../options/publish-change.ts'
import type { PublishChange } from '../options/publish-change.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { checkGrant } from '../options/subscribe-grant.ts'
import type { SubscribeGrant } from '../options/subscribe-grant.ts'
import type { Connection } from './connection.ts'
import type { Parser } from './parser.ts'
import { PublishLimits } from './publish-limits.ts'

const NOT_ALLOWED = "the namespace's publish rule does not allow it"

/** What is published for a client. `payload`: undefined if it is what the client sent, as it is. */
export interface Publishing extends Omit<PublishChange, 'data'> {
  readonly payload: Payload | undefined
}

/** What clients may do in channels: the rules of the namespace decide, then the handlers of the app. */
export class Permissions {
  /** Of the namespaces with a schema, by namespace. Set before the app is ready. */
  readonly parsers = new Map<string, Parser>()
  readonly #namespaces: ChannelNamespaces
  readonly #options: ResolvedOptions
  readonly #publishLimits = new PublishLimits()

  constructor (namespaces: ChannelNamespaces, options: ResolvedOptions) {
    this.#namespaces = namespaces
    this.#options = options
  }

  /** @throws ReplyError (102) for a channel of a namespace that is not in the option `channels`. */
  rules (channel: string): ChannelRules {
    const rules = this.#namespaces.find(channel)
    if (rules === undefined) throw new ReplyError(clientErrors.unknownChannel, 'the option channels has no such namespace')
    return rules
  }

  /**
   * Asks the token if there is one, else the rule `subscribe`. Then the app's `onSubscribe` can refuse, or change the
   * grant.
   * @param details What the client sent for `onSubscribe`.
   * @param byToken Verifies the client's token. undefined: it has none.
   * @throws ReplyError (102, 103), and what `byToken` or the app's code throws
   */
  async subscribe (
    connection: Connection, channel: string, details: { data?: unknown }, byToken?: () => Promise<SubscribeGrant>
  ): Promise<SubscribeGrant> {
    const { subscribe, token, history } = this.rules(channel)
    checkUserLimit(channel, connection.user)
    let grant: SubscribeGrant = {}
    if (byToken !== undefined) {
      grant = await byToken()
    } else if (token) {
      throw new ReplyError(clientErrors.permissionDenied, "the namespace's token rule requires a subscription token")
    } else if (!(typeof subscribe === 'function' ? await subscribe(connection, channel) : subscribe)) {
      throw new ReplyError(clientErrors.permissionDenied, "the namespace's subscribe rule does not allow it")
    }
    const answer = await this.#options.onSubscribe?.(connection, channel, details)
    if (answer === false) throw new ReplyError(clientErrors.permissionDenied, 'onSubscribe returned false')
    return typeof answer === 'object' && answer !== null ? merge(grant, checkGrant(answer, channel, history !== undefined)) : grant
  }

  /**
   * Checks the data by the namespace's schema. Then asks the rule `publish`, and the app's `onPublish`, which can
   * refuse, and change what is published. Both get what the schema has made of the data.
   *
   * What costs nothing comes first, and `publishLimit` before what may cost much: it limits also what is refused.
   * @throws ReplyError (102, 103, 107, 111), FST_CRWS_SCHEMA_FAILED, FST_CRWS_INVALID_DATA, and what the app's code
   * throws
   */
  async publish (connection: Connection, channel: string, sent: unknown): Promise<Publishing> {
    const { publish, publishLimit, schema } = this.rules(channel)
    checkUserLimit(channel, connection.user)
    if (publish === false) throw new ReplyError(clientErrors.permissionDenied, NOT_ALLOWED)
    if (publishLimit !== undefined && !this.#publishLimits.take(connection, channel, publishLimit, Date.now())) {
      throw new ReplyError(clientErrors.tooManyRequests, "the user publishes faster than the namespace's publishLimit allows")
    }
    const parser = schema === undefined ? undefined : this.parsers.get(namespaceOf(channel))!
    const data = parser === undefined ? sent : await parser.parse(sent)
    if (typeof publish === 'function' && !(await publish(connection, channel, data))) {
      throw new ReplyError(clientErrors.permissionDenied, NOT_ALLOWED)
    }
    const change = await this.#options.onPublish?.(connection, channel, data as AnyChannelData)
    if (change === false) throw new ReplyError(clientErrors.permissionDenied, 'onPublish returned false')
    const { data: changed, ...options } = typeof change === 'object' && change !== null ? checkChange(change) : {}
    return { ...options, payload: changed === undefined ? await parser?.encode(data) : encodePayload(changed) }
  }

  /**
   * Asks the rule `presenceFor`. By default the connection has to be subscribed.
   * @throws ReplyError (102, 103, 108), and what the rule throws
   */
  async presence (connection: Connection, channel: string): Promise<void> {
    const { presence, presenceFor } = this.rules(channel)
    if (!presence) throw new ReplyError(clientErrors.notAvailable, 'the namespace keeps no presence')
    await connection.turns.settled(channel) // its subscribe may be in the same frame
    const subscribed = isSubscribed(connection, channel)
    if (!subscribed) checkUserLimit(channel, connection.user)
    if (presenceFor === 'everybody' || (presenceFor === 'subscribers' && subscribed)) return
    if (presenceFor === 'subscribers') throw notSubscribed()
    if (!(await presenceFor(connection, channel))) {
      throw new ReplyError(clientErrors.permissionDenied, "the namespace's presenceFor rule does not allow it")
    }
  }

  /**
   * Checks that a client may read the history: the connection has to be subscribed.
   * @throws ReplyError (102, 103, 108)
   */
  async history (connection: Connection, channel: string): Promise<void> {
    if (this.rules(channel).history === undefined) throw new ReplyError(clientErrors.notAvailable, 'the namespace keeps no history')
    await connection.turns.settled(channel)
    if (!isSubscribed(connection, channel)) throw notSubscribed()
  }

  /** Names the code of the app that decides, for the log entry of its failure; undefined where none does. */
  deciderOf (action: 'subscribe' | 'publish' | 'presenceFor', channel: string): string | undefined {
    const rule = typeof this.#namespaces.rules(channel)[action] === 'function' && `channels['${namespaceOf(channel)}'].${action}`
    if (action === 'presenceFor') return rule || undefined
    const handler = action === 'subscribe' ? 'onSubscribe' : 'onPublish'
    const schema = action === 'publish' && this.#namespaces.rules(channel).schema !== undefined && `channels['${namespaceOf(channel)}'].schema`
    return [schema, rule, this.#options[handler] !== undefined && handler].filter(Boolean).join(' or ') || undefined
  }
}

function isSubscribed ({ subscriptions }: Connection, channel: string): boolean {
  return subscriptions.get(channel)?.state === 'live'
}

function notSubscribed (): ReplyError {
  return new ReplyError(clientErrors.permissionDenied, 'the client is not subscribed to the channel')
}

/**
 * Refuses users that a user-limited channel does not name: `inbox:#42` is for user 42 alone, `dialog:#42,43` for both.
 * A user whose id has a comma or a hash may enter none: what separates ids must not be part of one.
 */
function checkUserLimit (channel: string, user: string): void {
  const hash = channel.indexOf('#')
  if (hash === -1 || (user !== '' && !user.includes('#') && channel.slice(hash + 1).split(',').includes(user))) return
  throw new ReplyError(clientErrors.permissionDenied, 'the channel is limited to the users after its #')
}

/** Fields that `onSubscribe` leaves out stay as the token has them. */
function merge (grant: SubscribeGrant, answer: SubscribeGrant): SubscribeGrant {
  const { data = grant.data, info = grant.info, expiresAt = grant.expiresAt, since } = answer
  return { data, info, since, ...(expiresAt !== undefined && { expiresAt }) }
}
