import { InvalidChannelError } from './errors.ts'
import type { HistorySettings } from './broker.ts'
import type { Connection } from './connection.ts'
import type { Schema } from './schema.ts'
import { inspect } from 'node:util'

type Allow<Args extends unknown[]> = boolean | ((...args: Args) => boolean | Promise<boolean>)

/** Who may ask for the presence of a channel. */
export type PresenceFor = 'subscribers' | 'everybody' | ((connection: Connection, channel: string) => boolean | Promise<boolean>)

/** History of a namespace, and what of it a subscriber gets: what it missed, or the newest publication. */
export interface HistoryRules extends HistorySettings {
  readonly recover: 'stream' | 'cache'
}

/** Checked rules of one namespace, with every field set. `ChannelOptions` documents the fields. */
export interface ChannelRules {
  readonly subscribe: Allow<[connection: Connection, channel: string]>
  readonly publish: Allow<[connection: Connection, channel: string, data: unknown]>
  readonly presence: boolean
  readonly joinLeave: boolean
  readonly history: HistoryRules | undefined
  readonly publishLimit: { readonly max: number, readonly timeWindow: number } | undefined
  readonly token: boolean
  readonly batchDelay: number
  readonly slow: 'close' | 'latest'
  readonly schema: Schema | undefined
  readonly stream: boolean
  readonly tagsFilter: boolean
  readonly delta: boolean
  readonly compaction: boolean
  readonly presenceFor: PresenceFor
}

/** Rules of a namespace without rules: nothing is kept, SDK clients may do nothing. The app's own calls are allowed. */
export const noRules: ChannelRules = Object.freeze({
  subscribe: false,
  publish: false,
  presence: false,
  joinLeave: false,
  history: undefined,
  publishLimit: undefined,
  token: false,
  batchDelay: 0,
  slow: 'close',
  schema: undefined,
  stream: false,
  tagsFilter: false,
  delta: false,
  compaction: false,
  presenceFor: 'subscribers'
})

/**
 * What of the history a subscriber starts with: what it has missed since its position, the newest publication, or each
 * stream in one publication.
 */
export type Start = 'missed' | 'newest' | 'streams'

export function startOf ({ stream, history }: ChannelRules): Start {
  if (stream) return 'streams'
  return history?.recover === 'cache' ? 'newest' : 'missed'
}

/** Maximum length of a channel's name in bytes, as in the Centrifugal protocol. */
const MAX_CHANNEL_BYTES = 255

/** Returns a channel's namespace: its name up to the first colon; '' without a colon. */
export function namespaceOf (channel: string): string {
  const colon = channel.indexOf(':')
  return colon === -1 ? '' : channel.slice(0, colon)
}

/**
 * Returns the channel if its name is valid.
 * @throws FST_CRWS_INVALID_CHANNEL. Control characters are reserved for channels of the plugin, so that no app
 * publishes there.
 */
export function checkChannel (channel: string): string {
  if (typeof channel !== 'string' || channel === '') {
    throw new InvalidChannelError(inspect(channel), 'a channel is a non-empty string')
  }
  const bytes = Buffer.byteLength(channel)
  if (bytes > MAX_CHANNEL_BYTES) {
    throw new InvalidChannelError(inspect(channel), `its name has ${bytes} bytes, at most ${MAX_CHANNEL_BYTES} are allowed`)
  }
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(channel)) {
    throw new InvalidChannelError(inspect(channel), 'control characters are not allowed in its name')
  }
  // In UTF-8 every half of a surrogate pair becomes U+FFFD: on Redis different names would be one.
  if (!channel.isWellFormed()) {
    throw new InvalidChannelError(inspect(channel), 'half a surrogate pair is not allowed in its name')
  }
  return channel
}

/** Rules by namespace. */
export class ChannelNamespaces {
  readonly #rules: ReadonlyMap<string, ChannelRules>

  constructor (rules: ReadonlyMap<string, ChannelRules>) {
    this.#rules = rules
  }

  /** Returns the rules of a channel's namespace; `noRules` if the app did not name it. */
  rules (channel: string): ChannelRules {
    const colon = channel.indexOf(':')
    return this.#rules.get(colon === -1 ? '' : channel.slice(0, colon)) ?? noRules
  }

  /** Returns the rules of a channel's namespace; undefined if the app did not name it. */
  find (channel: string): ChannelRules | undefined {
    return this.#rules.get(namespaceOf(channel))
  }

  /**
   * Returns the channel's name with a placeholder after the namespace, for metrics and traces; undefined if the app did
   * not name the namespace, because clients may invent any number of those.
   */
  template (channel: string): string | undefined {
    const namespace = namespaceOf(channel)
    if (!this.#rules.has(namespace)) return undefined
    return namespace === '' ? '{channel}' : `${namespace}:{channel}`
  }
}
