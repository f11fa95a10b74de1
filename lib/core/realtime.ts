import { inspect } from 'node:util'
import { checkFields } from '../model/arguments.ts'
import { checkChannel } from '../model/channel-rules.ts'
import { checkClose, closeCodes } from '../model/close-codes.ts'
import type { Connection } from '../model/connection.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import type { Member, Presence } from '../model/presence.ts'
import { encodePayload } from '../model/publication.ts'
import type { Position } from '../model/publication.ts'
import type { ChannelData, DataFor } from '../model/realtime-types.ts'
import { decodeFields, encodeFields, SESSION_TTL } from '../model/sessions.ts'
import type { SessionFields, SessionStore } from '../model/sessions.ts'
import type { Observer } from '../observability/observer.ts'
import { milliseconds } from '../options/checks.ts'
import type { Duration } from '../options/checks.ts'
import { guarded } from './guard.ts'
import type { Connections } from './connections.ts'
import type { Control, Target } from './control.ts'
import type { InstanceInfo, InstanceRegistry } from './instance-registry.ts'
import type { ChannelHistory, HistoryOptions, Publisher, PublishOptions } from './publisher.ts'

/** `app.realtime`: channels, users and connections, on all instances. */
export interface Realtime {
  /** The connections of this instance. */
  readonly connections: Iterable<Connection>
  /** State of a user that every instance sees. */
  readonly sessions: Sessions
  /**
   * Publishes to everybody in the channel, on every instance. Resolves when the publication is stored, to its position
   * (in a channel with history), or when it is handed to Redis, to `{}`.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_DATA, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE,
   * FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  publish<Channel extends string> (channel: Channel, data: DataFor<Channel>, options?: PublishOptions): Promise<Partial<Position>>
  /**
   * Publishes the same to several channels. A client that is subscribed to two of them gets it twice. Rejects if it
   * failed for one; give an idempotencyKey to be able to retry.
   * @throws as `publish`
   */
  broadcast<Channel extends string> (
    channels: readonly Channel[], data: DataFor<Channel>, options?: PublishOptions
  ): Promise<Partial<Position>[]>
  /**
   * Reads what was published to a channel with history. It is empty, and a hint says so in the log, if the namespace
   * keeps none.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_UNRECOVERABLE_POSITION if `since` names an
   * epoch that is gone, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  history<Channel extends string> (channel: Channel, options?: HistoryOptions): Promise<ChannelHistory<ChannelData<Channel>>>
  /**
   * Lists the members of a channel on all instances: one entry per connection. It is empty, and a hint says so in the
   * log, if the namespace keeps no presence. Members of an instance that crashed
   * are listed for up to 60 s more.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  presence (channel: string): Promise<Member[]>
  /**
   * Counts the members of a channel on all instances: `clients` are connections, `users` are distinct users. Clients
   * without a user count as one user, ''.
   * @throws as `presence`
   */
  presenceStats (channel: string): Promise<{ clients: number, users: number }>
  /**
   * Subscribes every connection that the user has now, on any instance. Resolves when the command is stored.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER,
   * FST_CRWS_REDIS_REFUSED
   */
  subscribe (user: string, channel: string): Promise<void>
  /**
   * Unsubscribes every connection that the user has now, on any instance. An SDK client is told, and may
   * subscribe again if the rules allow it; a plain client is not told. Resolves when the command is stored.
   * @throws as `subscribe`
   */
  unsubscribe (user: string, channel: string): Promise<void>
  /**
   * Closes every connection of a user, or one connection by its id, on any instance. Resolves when the command is
   * stored.
   * @param options `@default` code 3503 and reason 'force disconnect', which keep SDK clients out. So do 1000, 3500 to
   * 3999 and 4500 to 4999. After 3000 to 3499 and 4000 to 4499 they connect again at once.
   * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  disconnect (target: string | Target, options?: { code?: number | undefined, reason?: string | undefined }): Promise<void>
  /**
   * Lists all instances. Figures of the others are up to five seconds old, and an instance that crashed is listed for
   * up to 60 s.
   * @throws FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  info (): Promise<InstanceInfo[]>
}

/** `app.realtime.sessions`: fields of a user that every instance sees. */
export interface Sessions {
  /**
   * Returns the user's fields; undefined without a session.
   * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  get (user: string): Promise<SessionFields | undefined>
  /**
   * Sets these fields and keeps the others; undefined removes a field. The session ends `ttl` after it was last set.
   * @param options `ttl`: milliseconds or a string such as '1h'. `@default` one hour
   * @throws as `get`; FST_CRWS_INVALID_DATA if JSON cannot carry a field
   */
  set (user: string, fields: SessionFields, options?: { ttl?: Duration | undefined }): Promise<void>
  /**
   * Ends the user's session.
   * @throws as `get`
   */
  delete (user: string): Promise<void>
}

/** Puts the calls of `app.realtime` together from the parts that carry them out. */
export function createRealtime (
  publisher: Publisher, presence: Presence, sessions: SessionStore, connections: Connections, registry: InstanceRegistry,
  control: Control, observer: Observer
): Realtime {
  return {
    connections: { [Symbol.iterator]: () => connections[Symbol.iterator]() },
    sessions: createSessions(sessions, observer),
    publish: guarded(observer, 'publish', (channel, data, options) => publisher.publish(checkChannel(channel), encodePayload(data), options)),
    broadcast: guarded(observer, 'broadcast', (channels, data, options) => {
      const list = checkChannels(channels)
      const payload = encodePayload(data)
      return Promise.all(list.map(async channel => publisher.publish(checkChannel(channel), payload, options)))
    }),
    history: guarded(observer, 'history', (channel, options) => {
      observer.readsKept('history', checkChannel(channel))
      return publisher.history(channel, options) as Promise<ChannelHistory<never>> // the app says what its channels carry
    }),
    presence: guarded(observer, 'presence', channel => {
      observer.readsKept('presence', checkChannel(channel))
      return presence.list(channel)
    }),
    presenceStats: guarded(observer, 'presenceStats', channel => {
      observer.readsKept('presence', checkChannel(channel))
      return presence.stats(channel)
    }),
    subscribe: guarded(observer, 'control', (user, channel) => {
      return control.send({ type: 'subscribe', user: checkUser(user), channel: checkChannel(channel) })
    }),
    unsubscribe: guarded(observer, 'control', (user, channel) => {
      return control.send({ type: 'unsubscribe', user: checkUser(user), channel: checkChannel(channel) })
    }),
    disconnect: guarded(observer, 'control', (target, options = {}) => {
      checkFields('options of disconnect', options, ['code', 'reason'])
      const { code = closeCodes.forceDisconnect.code, reason = closeCodes.forceDisconnect.reason } = options
      return control.send({ type: 'disconnect', ...checkTarget(target), ...checkClose(code, reason) })
    }),
    info: guarded(observer, 'info', () => registry.list())
  }
}

function createSessions (store: SessionStore, observer: Observer): Sessions {
  return {
    get: guarded(observer, 'sessions.get', async user => {
      const fields = await store.get(checkUser(user))
      return fields.size === 0 ? undefined : decodeFields(fields)
    }),
    set: guarded(observer, 'sessions.set', (user, fields, options = {}) => {
      checkFields('options of sessions.set', options, ['ttl'])
      return store.set(checkUser(user), encodeFields(fields), checkTtl(options.ttl ?? SESSION_TTL))
    }),
    delete: guarded(observer, 'sessions.delete', user => store.delete(checkUser(user)))
  }
}

function checkTarget (target: string | Target): Target {
  if (typeof target === 'string') return { user: checkUser(target) }
  if (typeof target === 'object' && target !== null) return 'client' in target ? { client: checkUser(target.client) } : { user: checkUser(target.user) }
  throw new InvalidArgumentError('target', inspect(target), 'a user, { user } or { client }')
}

function checkChannels (channels: readonly string[]): readonly string[] {
  if (Array.isArray(channels)) return channels
  throw new InvalidArgumentError('channels', inspect(channels), 'a list of channels')
}

function checkTtl (ttl: Duration): number {
  const ms = milliseconds(ttl)
  if (ms !== undefined && ms >= 1) return ms
  throw new InvalidArgumentError('ttl', inspect(ttl), "a duration of at least 1 ms: a number of milliseconds or a string such as '1h'")
}

function checkUser (user: unknown): string {
  if (typeof user === 'string' && user !== '' && user.isWellFormed()) return user
  throw new InvalidArgumentError('user', inspect(user), 'a non-empty string of well-formed Unicode')
}
