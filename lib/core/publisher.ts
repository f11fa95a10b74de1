import { inspect } from 'node:util'
import type { Broker, History, HistoryQuery, PublishSettings } from '../model/broker.ts'
import { checkFields } from '../model/arguments.ts'
import { checkChannel } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import type { Connection } from '../model/connection.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import type { Member } from '../model/presence.ts'
import { decodePayload, isTags } from '../model/publication.ts'
import type { Payload, Position, Publication } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'

/** Options of `app.realtime.publish` and `broadcast`. */
export interface PublishOptions {
  /**
   * A second publish with the same key within five minutes publishes nothing and returns the first one's position.
   * @default none
   */
  idempotencyKey?: string | undefined
  /**
   * Short strings that travel with the publication and are kept in the history, such as `{ lang: 'de' }`. @default none
   */
  tags?: Record<string, string> | undefined
  /**
   * False: the publication is not kept although the namespace has history. It has no offset, and clients that are
   * away miss it. @default true
   */
  history?: boolean | undefined
  /**
   * A connection, or its id, that does not get the publication; every other subscriber does, on any instance. Live
   * delivery only: the history keeps the publication, and a client that comes back recovers it like everybody, because
   * its new connection has another id. @default none
   */
  except?: Connection | string | undefined
}

/** Options of `app.realtime.history`. */
export interface HistoryOptions {
  /** Maximum number of publications; 0 returns the position alone. @default all that are kept */
  limit?: number | undefined
  /**
   * Only publications after this position; before it with `reverse`. An empty epoch matches any. @default all that
   * are kept
   */
  since?: Position | undefined
  /** True: newest first. @default false */
  reverse?: boolean | undefined
}

/** A publication as your app gets it from the history. */
export interface PublishedData<Data = unknown> extends Position {
  /** What was published. A Buffer if it was binary. */
  data: Data
  /** The tags it was published with. */
  tags?: Record<string, string> | undefined
  /** Unix time in milliseconds of the publish call, by the clock of the publishing instance. */
  time: number
}

/** Publications of a channel, and the position of its newest one. */
export interface ChannelHistory<Data = unknown> extends Position {
  /** In the order in which they were published; with `reverse` the newest comes first. */
  publications: PublishedData<Data>[]
}

const PUBLISH_FIELDS: readonly (keyof PublishOptions)[] = ['idempotencyKey', 'tags', 'history', 'except']
const HISTORY_FIELDS: readonly (keyof HistoryOptions)[] = ['limit', 'since', 'reverse']

/** Publishes to channels and reads their history, by the rules of their namespaces. */
export class Publisher {
  readonly #instance: string
  readonly #broker: Broker
  readonly #namespaces: ChannelNamespaces
  readonly #observer: Observer

  constructor (instance: string, broker: Broker, namespaces: ChannelNamespaces, observer: Observer) {
    this.#instance = instance
    this.#broker = broker
    this.#namespaces = namespaces
    this.#observer = observer
  }

  /** @param publisher The SDK client that publishes; undefined for the app. */
  async publish (channel: string, { kind, payload }: Payload, options?: PublishOptions, publisher?: Member): Promise<Partial<Position>> {
    const { idempotencyKey, tags, history = true, except } = options === undefined ? {} : checkOptions(options)
    const kept = this.#namespaces.rules(channel).history
    const settings: PublishSettings = { history: kept && (history ? kept : false), idempotencyKey }
    const publication: Publication = {
      kind,
      payload,
      time: Date.now(),
      instance: this.#instance,
      sequence: 0,
      offset: 0,
      epoch: '',
      ...(tags !== undefined && { tags }),
      ...(publisher !== undefined && { publisher }),
      ...(except !== undefined && { except: idOf(except) })
    }
    if (!this.#observer.recording) return this.#broker.publish(channel, publication, settings)
    return this.#observer.publishing(channel, publication, traced => this.#broker.publish(channel, traced, settings))
  }

  async history (channel: string, options: HistoryOptions = {}): Promise<ChannelHistory> {
    checkFields('options of history', options, HISTORY_FIELDS)
    const { limit = Number.MAX_SAFE_INTEGER, since, reverse } = options
    if (!Number.isSafeInteger(limit) || limit < 0) throw new InvalidArgumentError('limit', inspect(limit), 'a whole number of at least 0')
    const { publications, offset, epoch } = await this.read(checkChannel(channel), { limit, since, reverse })
    return { publications: publications.map(published), offset, epoch }
  }

  /** Returns the same as `history`, encoded. */
  async read (channel: string, query: HistoryQuery): Promise<History> {
    return this.#broker.history(channel, query)
  }
}

/** A value of the wrong type would be found on other instances, long after the call. */
function checkOptions (options: PublishOptions): PublishOptions {
  checkFields('options of publish', options, PUBLISH_FIELDS)
  const { idempotencyKey, tags, history, except } = options
  if (idempotencyKey !== undefined && (typeof idempotencyKey !== 'string' || idempotencyKey === '')) {
    throw new InvalidArgumentError('idempotencyKey', inspect(idempotencyKey), 'a non-empty string')
  }
  if (tags !== undefined && !isTags(tags)) throw new InvalidArgumentError('tags', inspect(tags), 'an object whose values are strings')
  if (history !== undefined && typeof history !== 'boolean') throw new InvalidArgumentError('history', inspect(history), 'true or false')
  if (except !== undefined && !isId(idOf(except))) throw new InvalidArgumentError('except', inspect(except, { depth: 0 }), 'a connection or its id')
  return options
}

function idOf (connection: Connection | string): string {
  return typeof connection === 'object' ? connection?.id : connection
}

function isId (id: unknown): boolean {
  return typeof id === 'string' && id !== ''
}

/** A publication as the app gets it. */
export function published (publication: Publication): PublishedData {
  const { offset, epoch, time, tags } = publication
  return { data: decodePayload(publication), offset, epoch, time, ...(tags !== undefined && { tags }) }
}
