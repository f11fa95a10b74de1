import { InvalidChannelError } from './errors.ts'
import type { HistorySettings } from './broker.ts'
import type { Connection } from './connection.ts'
import { inspect } from 'node:util'

type Allow<Args extends unknown[]> = boolean | ((...args: Args) => boolean | Promise<boolean>)

/** Rules of one namespace after checking: every field is there. */
export interface ChannelRules {
  readonly subscribe: Allow<[connection: Connection, channel: string]>
  readonly publish: Allow<[connection: Connection, channel: string, data: unknown]>
  readonly presence: boolean
  readonly joinLeave: boolean
  readonly history: HistorySettings | undefined
  readonly publishLimit: { readonly max: number, readonly timeWindow: number } | undefined
  readonly token: boolean
  readonly batchDelay: number
  readonly slow: 'close' | 'latest'
}

/**
 * What holds in a namespace without rules: nothing is kept and nobody may do anything; the host's own calls are
 * always allowed.
 */
export const noRules: ChannelRules = Object.freeze({
  subscribe: false, publish: false, presence: false, joinLeave: false, history: undefined, publishLimit: undefined, token: false, batchDelay: 0, slow: 'close'
})

/** Bytes of a channel's name, as in the Centrifugal protocol. */
export const MAX_CHANNEL_BYTES = 255

/** The namespace is the text before the first colon; '' for a channel without one. */
export function namespaceOf (channel: string): string {
  const colon = channel.indexOf(':')
  return colon === -1 ? '' : channel.slice(0, colon)
}

/**
 * @throws FST_CRWS_INVALID_CHANNEL. Control characters are kept for channels of our own, so that no host can publish
 * there.
 */
export function checkChannel (channel: string): string {
  if (typeof channel !== 'string' || channel === '') throw new InvalidChannelError(inspect(channel), 'a channel is a text that is not empty')
  const bytes = Buffer.byteLength(channel)
  if (bytes > MAX_CHANNEL_BYTES) throw new InvalidChannelError(inspect(channel), `its name has ${bytes} bytes, at most ${MAX_CHANNEL_BYTES} are allowed`)
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(channel)) throw new InvalidChannelError(inspect(channel), 'control characters are not allowed in its name')
  return channel
}

/** Which rules hold for a channel. */
export class ChannelNamespaces {
  readonly #rules: ReadonlyMap<string, ChannelRules>

  constructor (rules: ReadonlyMap<string, ChannelRules>) {
    this.#rules = rules
  }

  /** The rules of a channel's namespace. */
  rules (channel: string): ChannelRules {
    const colon = channel.indexOf(':')
    return this.#rules.get(colon === -1 ? '' : channel.slice(0, colon)) ?? noRules
  }

  /** Returns undefined for a namespace that the app did not name. */
  find (channel: string): ChannelRules | undefined {
    return this.#rules.get(namespaceOf(channel))
  }

  /**
   * The channel's name with a placeholder for what follows the namespace. Returns undefined for a namespace that the
   * app did not name, of which there may be any number.
   */
  template (channel: string): string | undefined {
    const namespace = namespaceOf(channel)
    if (!this.#rules.has(namespace)) return undefined
    return namespace === '' ? '{channel}' : `${namespace}:{channel}`
  }
}
