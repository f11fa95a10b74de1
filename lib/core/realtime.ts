import { checkChannel } from '../model/channel-rules.ts'
import { checkClose, closeCodes } from '../model/close-codes.ts'
import type { Connection } from './connection.ts'
import type { Command, Control, Target } from './control.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import type { Instance } from './connections.ts'
import type { InstanceInfo, Instances } from './instance-registry.ts'
import type { Observer } from '../observability/observer.ts'
import { milliseconds } from '../options/checks.ts'
import type { Duration } from '../options/checks.ts'
import type { Member, Presence } from '../model/presence.ts'
import type { Position } from '../model/publication.ts'
import type { ChannelHistory, HistoryOptions, Publisher, PublishOptions } from './publisher.ts'
import { decodeFields, encodeFields, SESSION_TTL } from '../model/sessions.ts'
import type { SessionFields, SessionStore } from '../model/sessions.ts'

/** `app.realtime`: what the host does with channels and users, on all instances. */
export class Realtime {
  readonly #publisher: Publisher
  readonly #presence: Presence
  readonly #instance: Instance
  readonly #instances: Instances
  readonly #control: Control
  readonly #observer: Observer
  /** State of a user that every instance sees. */
  readonly sessions: Sessions

  /** @internal */
  constructor (publisher: Publisher, presence: Presence, sessions: SessionStore, instance: Instance, instances: Instances, control: Control, observer: Observer) {
    this.#publisher = publisher
    this.#presence = presence
    this.sessions = new Sessions(sessions, observer)
    this.#instance = instance
    this.#instances = instances
    this.#control = control
    this.#observer = observer
  }

  /** The connections of this instance. */
  get connections (): Iterable<Connection> { return this.#instance.connections.values() }

  /**
   * To everybody in the channel, on every instance. Resolves when stored (in a channel with history: to its position) or handed on.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_DATA, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  publish (channel: string, data: unknown, options?: PublishOptions): Promise<Partial<Position>> {
    return this.#observer.watch('publish', () => this.#publisher.publish(channel, data, options))
  }

  /** The same to several channels. Rejects if it failed for one; give an idempotencyKey to be able to repeat it. */
  broadcast (channels: readonly string[], data: unknown, options?: PublishOptions): Promise<Partial<Position>[]> {
    return this.#observer.watch('broadcast', () => Promise.all(checkChannels(channels).map(channel => this.#publisher.publish(channel, data, options))))
  }

  /** @throws FST_CRWS_UNRECOVERABLE_POSITION when `since` names an epoch that is gone. */
  history (channel: string, options?: HistoryOptions): Promise<ChannelHistory> {
    return this.#observer.watch('history', () => this.#publisher.history(channel, options))
  }

  /** Who is in the channel, on all instances: one entry per connection. Of an instance that crashed for up to 60 s more. */
  presence (channel: string): Promise<Member[]> {
    return this.#observer.watch('presence', () => this.#presence.list(checkChannel(channel)))
  }

  presenceStats (channel: string): Promise<{ clients: number, users: number }> {
    return this.#observer.watch('presenceStats', () => this.#presence.stats(checkChannel(channel)))
  }

  /** Subscribes every connection that the user has now, on any instance. Resolves when the command is stored. */
  subscribe (user: string, channel: string): Promise<void> {
    return this.#send(() => ({ type: 'subscribe', user: checkUser(user), channel: checkChannel(channel) }))
  }

  unsubscribe (user: string, channel: string): Promise<void> {
    return this.#send(() => ({ type: 'unsubscribe', user: checkUser(user), channel: checkChannel(channel) }))
  }

  /** Closes every connection of a user, or one connection by its id, on any instance. Default code 3503 'force disconnect': do not come back. */
  disconnect (target: string | Target, { code = closeCodes.forceDisconnect.code, reason = closeCodes.forceDisconnect.reason }: { code?: number, reason?: string } = {}): Promise<void> {
    return this.#send(() => ({ type: 'disconnect', ...checkTarget(target), ...checkClose(code, reason) }))
  }

  #send (command: () => Command): Promise<void> {
    return this.#observer.watch('control', () => this.#control.send(command()))
  }

  /** All instances; figures of the others are up to five seconds old, and a crashed one stays for up to 60 s. */
  info (): Promise<InstanceInfo[]> {
    return this.#observer.watch('info', () => this.#instances.list())
  }
}

/** `app.realtime.sessions` */
export class Sessions {
  readonly #store: SessionStore
  readonly #observer: Observer

  /** @internal */
  constructor (store: SessionStore, observer: Observer) {
    this.#store = store
    this.#observer = observer
  }

  /** The user's fields, or undefined without a session. */
  get (user: string): Promise<SessionFields | undefined> {
    return this.#observer.watch('sessions.get', async () => {
      const fields = await this.#store.get(checkUser(user))
      return fields.size === 0 ? undefined : decodeFields(fields)
    })
  }

  /** Sets these fields and keeps the others; undefined removes one. The session ends `ttl` (default one hour) after it was last set. */
  set (user: string, fields: SessionFields, { ttl = SESSION_TTL }: { ttl?: Duration } = {}): Promise<void> {
    return this.#observer.watch('sessions.set', () => this.#store.set(checkUser(user), encodeFields(fields), checkTtl(ttl)))
  }

  delete (user: string): Promise<void> {
    return this.#observer.watch('sessions.delete', () => this.#store.delete(checkUser(user)))
  }
}

function checkTarget (target: string | Target): Target {
  if (typeof target === 'string') return { user: checkUser(target) }
  if (typeof target === 'object' && target !== null) return 'client' in target ? { client: checkUser(target.client) } : { user: checkUser(target.user) }
  throw new InvalidArgumentError('target', String(target), 'a user, { user } or { client }')
}

function checkChannels (channels: readonly string[]): readonly string[] {
  if (Array.isArray(channels)) return channels
  throw new InvalidArgumentError('channels', String(channels), 'a list of channels')
}

function checkTtl (ttl: Duration): number {
  const ms = milliseconds(ttl)
  if (ms !== undefined && ms >= 1) return ms
  throw new InvalidArgumentError('ttl', String(ttl), "a duration of at least 1 ms: a number of milliseconds or text such as '1h'")
}

function checkUser (user: unknown): string {
  if (typeof user === 'string' && user !== '') return user
  throw new InvalidArgumentError('user', String(user), 'a text that is not empty')
}
