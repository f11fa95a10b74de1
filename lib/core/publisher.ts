import { inspect } from 'node:util'
import type { Broker, History, HistoryQuery } from '../model/broker.ts'
import { checkChannel, CONTROL_CHANNEL } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import type { Observer } from '../observability/observer.ts'
import type { Member } from '../model/presence.ts'
import { decodePayload, encodePayload, isTags } from '../model/publication.ts'
import type { Payload, Position, Publication } from '../model/publication.ts'

export interface PublishOptions {
  /** A second publish with the same key within five minutes publishes nothing and gives the first one's position. */
  idempotencyKey?: string
  /** Short texts that travel with the publication and are found again in the history. */
  tags?: Record<string, string>
  /** false: do not keep it, although the namespace has history. Then it has no offset, and who is away misses it. */
  history?: boolean
}

export interface HistoryOptions {
  /** At most so many; 0 gives the position alone. Default: all there are. */
  limit?: number
  /** Only what was published after this position (before it, with `reverse`). An empty epoch stands for any. */
  since?: Position
  /** Newest first. */
  reverse?: boolean
}

/** A publication as host code sees it. */
export interface PublishedData extends Position {
  data: unknown
  tags?: Record<string, string>
  /** Unix time in ms of the publish call. */
  time: number
}

export interface ChannelHistory extends Position {
  publications: PublishedData[]
}

/** Publishes to channels, and reads what was published, by the rules of their namespaces. */
export class Publisher {
  readonly #broker: Broker
  readonly #namespaces: ChannelNamespaces
  readonly #observer: Observer
  /** Id of this instance. */
  readonly instance: string

  constructor (instance: string, broker: Broker, namespaces: ChannelNamespaces, observer: Observer) {
    this.instance = instance
    this.#broker = broker
    this.#namespaces = namespaces
    this.#observer = observer
  }

  async publish (channel: string, data: unknown, options?: PublishOptions): Promise<Partial<Position>> {
    return this.publishPayload(checkChannel(channel), encodePayload(data), options)
  }

  /** To all instances, in the one channel that no host can name: who could publish there could do anything to anybody. */
  async command (command: object): Promise<void> {
    await this.publishPayload(CONTROL_CHANNEL, encodePayload(command))
  }

  /** Tells who has come or gone; kept nowhere. */
  async announce (what: 'join' | 'leave', channel: string, member: Member): Promise<void> {
    const { payload } = encodePayload(member)
    await this.#broker.publish(channel, this.#publication({ kind: what, payload }), { history: undefined })
  }

  /** What is encoded already, to a channel that was checked; `publisher` is the SDK client it comes from. */
  async publishPayload (channel: string, payload: Payload, options: PublishOptions = {}, publisher?: Member): Promise<Partial<Position>> {
    const { idempotencyKey, tags, history = true } = checkOptions(options)
    const settings = { history: history ? this.#namespaces.history(channel) : undefined, idempotencyKey }
    const publication: Publication = { ...this.#publication(payload), ...(tags !== undefined && { tags }), ...(publisher !== undefined && { publisher }) }
    // Commands between instances are no publications of the app.
    if (!this.#observer.recording || channel === CONTROL_CHANNEL) return this.#broker.publish(channel, publication, settings)
    return this.#observer.publishing(channel, publication, traced => this.#broker.publish(channel, traced, settings))
  }

  #publication (payload: Pick<Publication, 'kind' | 'payload'>): Publication {
    return { ...payload, time: Date.now(), instance: this.instance, sequence: 0, offset: 0, epoch: '' }
  }

  async history (channel: string, { limit = Number.MAX_SAFE_INTEGER, since, reverse }: HistoryOptions = {}): Promise<ChannelHistory> {
    if (!Number.isSafeInteger(limit) || limit < 0) throw new InvalidArgumentError('limit', String(limit), 'a whole number that is not negative')
    const { publications, offset, epoch } = await this.read(channel, { limit, since, reverse })
    return { publications: publications.map(published), offset, epoch }
  }

  /** The same, encoded. */
  async read (channel: string, query: HistoryQuery): Promise<History> {
    return this.#broker.history(checkChannel(channel), query)
  }
}

/** What is of a wrong type would be found out on other instances, long after the call. */
function checkOptions (options: PublishOptions): PublishOptions {
  const { idempotencyKey, tags, history } = options
  if (idempotencyKey !== undefined && (typeof idempotencyKey !== 'string' || idempotencyKey === '')) throw new InvalidArgumentError('idempotencyKey', inspect(idempotencyKey), 'a text that is not empty')
  if (tags !== undefined && !isTags(tags)) throw new InvalidArgumentError('tags', inspect(tags), 'an object of texts')
  if (history !== undefined && typeof history !== 'boolean') throw new InvalidArgumentError('history', inspect(history), 'true or false')
  return options
}

function published (publication: Publication): PublishedData {
  const { offset, epoch, time, tags } = publication
  return { data: decodePayload(publication), offset, epoch, time, ...(tags !== undefined && { tags }) }
}
