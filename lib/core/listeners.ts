import { inspect } from 'node:util'
import type { Hub } from '../hub/hub.ts'
import { checkFields } from '../model/arguments.ts'
import { checkChannel } from '../model/channel-rules.ts'
import type { ChannelNamespaces } from '../model/channel-rules.ts'
import { ClosingError, InvalidArgumentError } from '../model/errors.ts'
import { isPosition } from '../model/publication.ts'
import type { Position } from '../model/publication.ts'
import type { ChannelData } from '../model/realtime-types.ts'
import type { Observer } from '../observability/observer.ts'
import { describe, readable } from '../util/thrown.ts'
import { guarded } from './guard.ts'
import { published } from './publisher.ts'
import type { PublishedData } from './publisher.ts'

/** What `app.realtime.listen` returns. */
export interface Listener {
  readonly channel: string
  /**
   * Stops calling the handler. Waits until the handler has ended, if it is running: do not await this in the handler
   * itself.
   */
  stop (): Promise<void>
}

/** Listening to channels in the app itself. */
export interface ListenCalls {
  /**
   * Hands every publication of a channel to a handler on this instance, one at a time, in order. Resolves when the
   * listener is receiving. In a channel with history each publication comes once, whatever happens to Redis in between;
   * without history at most once. The handler gets no joins and leaves. If it throws or rejects, that is an error in
   * the log, and the handler gets the next publication.
   * @param handler Takes the publication and the channel.
   * @param options `since`: begins after this position, in a channel with history. `@default` begins with what is
   * published from now on
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_CLOSING,
   * FST_CRWS_UNRECOVERABLE_POSITION if the history no longer has everything after `since`,
   * FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  listen<Channel extends string> (
    channel: Channel, handler: (publication: PublishedData<ChannelData<Channel>>, channel: Channel) => unknown,
    options?: { since?: Position | undefined }
  ): Promise<Listener>
}

type Handler = (publication: PublishedData<never>, channel: never) => unknown

/** The listeners of this instance. */
export class Listeners {
  readonly #hub: Hub
  readonly #namespaces: ChannelNamespaces
  readonly #observer: Observer
  readonly #listeners = new Set<Listener>()
  #closing = false

  constructor (hub: Hub, namespaces: ChannelNamespaces, observer: Observer) {
    this.#hub = hub
    this.#namespaces = namespaces
    this.#observer = observer
  }

  async listen (channel: string, handler: Handler, options: { since?: Position | undefined } = {}): Promise<Listener> {
    const since = this.#check(channel, handler, options)
    const observer = this.#observer
    const inner = await this.#hub.listen(channel, since, {
      async handle (publication) {
        try {
          await handler(published(publication) as PublishedData<never>, channel as never)
        } catch (error) {
          const err = readable(error)
          observer.entryOnce('listener.failed', { channel, err }, `The listener of channel ${channel} failed: ${describe(err)}`)
        }
      },
      missed: (count, reason) => observer.listenerMissed(channel, count, reason)
    })
    const listener: Listener = {
      channel,
      stop: () => {
        this.#listeners.delete(listener)
        return this.#hub.unlisten(inner)
      }
    }
    if (this.#closing) {
      await listener.stop()
      throw new ClosingError('listen')
    }
    this.#listeners.add(listener)
    return listener
  }

  /** Stops all. Resolves when no handler is running. */
  async close (): Promise<void> {
    this.#closing = true
    await Promise.all(Array.from(this.#listeners, listener => listener.stop()))
  }

  #check (channel: string, handler: Handler, options: { since?: Position | undefined }): Position | undefined {
    if (this.#closing) throw new ClosingError('listen')
    const { history } = this.#namespaces.rules(checkChannel(channel))
    if (typeof handler !== 'function') throw new InvalidArgumentError('handler', inspect(handler), 'a function (publication, channel)')
    checkFields('options of listen', options, ['since'])
    const { since } = options
    if (since === undefined) return undefined
    if (history === undefined) {
      throw new InvalidArgumentError('since', inspect(since), `undefined: the namespace of channel ${channel} keeps no history`)
    }
    if (!isPosition(since)) throw new InvalidArgumentError('since', inspect(since), 'a position, { offset, epoch }')
    return since
  }
}

export function listenCalls (listeners: Listeners, observer: Observer): ListenCalls {
  return {
    listen: guarded(observer, 'listen', (channel, handler, options) => listeners.listen(channel, handler as Handler, options))
  }
}
