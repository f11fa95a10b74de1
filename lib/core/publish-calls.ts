import { inspect } from 'node:util'
import { checkChannel } from '../model/channel-rules.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import { encodePayload } from '../model/publication.ts'
import type { Position } from '../model/publication.ts'
import type { ChannelData, DataFor } from '../model/realtime-types.ts'
import type { Observer } from '../observability/observer.ts'
import { guarded } from './guard.ts'
import type { ChannelHistory, HistoryOptions, Publisher, PublishOptions } from './publisher.ts'

/** Publishing, and what was published. */
export interface PublishCalls {
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
}

const ONE = () => 1

export function publishCalls (publisher: Publisher, observer: Observer): PublishCalls {
  return {
    publish: guarded(
      observer, 'publish', (channel, data, options) => publisher.publish(checkChannel(channel), encodePayload(data), options), ONE
    ),
    broadcast: guarded(observer, 'broadcast', (channels, data, options) => {
      const list = checkChannels(channels)
      const payload = encodePayload(data)
      return Promise.all(list.map(async channel => publisher.publish(checkChannel(channel), payload, options)))
    }, ([channels]) => Array.isArray(channels) ? channels.length : 0),
    history: guarded(observer, 'history', (channel, options) => {
      observer.readsKept('history', checkChannel(channel))
      return publisher.history(channel, options) as Promise<ChannelHistory<never>> // the app says what its channels carry
    })
  }
}

function checkChannels (channels: readonly string[]): readonly string[] {
  if (Array.isArray(channels)) return channels
  throw new InvalidArgumentError('channels', inspect(channels), 'a list of channels')
}
