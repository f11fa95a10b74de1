import type { Broker } from './broker.ts'
import { checkChannel, CONTROL_CHANNEL } from './channels.ts'
import type { ChannelNamespaces } from './channels.ts'
import { InvalidArgumentError } from './errors.ts'
import type { Metrics } from './metrics.ts'
import { decodePayload, encodePayload } from './publication.ts'
import type { Position, Publication } from './publication.ts'

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
  readonly #metrics: Metrics
  /** Id of this instance. */
  readonly #instance: string

  constructor (broker: Broker, namespaces: ChannelNamespaces, metrics: Metrics, instance: string) {
    this.#broker = broker
    this.#namespaces = namespaces
    this.#metrics = metrics
    this.#instance = instance
  }

  async publish (channel: string, data: unknown, { idempotencyKey, tags, history = true }: PublishOptions = {}): Promise<Partial<Position>> {
    if (channel !== CONTROL_CHANNEL) checkChannel(channel)
    const settings = { history: history ? this.#namespaces.history(channel) : undefined, idempotencyKey }
    const publication: Publication = {
      ...encodePayload(data), time: Date.now(), instance: this.#instance, sequence: 0, offset: 0, epoch: '', ...(tags !== undefined && { tags })
    }
    const startedAt = performance.now()
    let errorType: string | undefined
    try {
      return await this.#broker.publish(channel, publication, settings)
    } catch (error) {
      errorType = (error as { code?: string }).code ?? 'other'
      throw error
    } finally {
      this.#metrics.published(performance.now() - startedAt, errorType)
    }
  }

  async history (channel: string, { limit = Number.MAX_SAFE_INTEGER, since, reverse }: HistoryOptions = {}): Promise<ChannelHistory> {
    checkChannel(channel)
    if (!Number.isSafeInteger(limit) || limit < 0) throw new InvalidArgumentError('limit', String(limit), 'a whole number that is not negative')
    const { publications, offset, epoch } = await this.#broker.history(channel, { limit, since, reverse })
    return { publications: publications.map(published), offset, epoch }
  }
}

function published (publication: Publication): PublishedData {
  const { offset, epoch, time, tags } = publication
  return { data: decodePayload(publication), offset, epoch, time, ...(tags !== undefined && { tags }) }
}
