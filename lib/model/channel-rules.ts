import { InvalidChannelError } from './errors.ts'
import type { HistorySettings } from './broker.ts'
import type { Connection } from '../core/connection.ts'
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

/** What holds in a namespace without rules: nothing is kept and nobody may do anything; the host's own calls are always allowed. */
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

/** @throws FST_CRWS_INVALID_CHANNEL. Control characters are kept for channels of our own, so that no host can publish there. */
export function checkChannel (channel: string): string {
  if (typeof channel !== 'string' || channel === '') throw new InvalidChannelError(inspect(channel), 'a channel is a text that is not empty')
  const bytes = Buffer.byteLength(channel)
  if (bytes > MAX_CHANNEL_BYTES) throw new InvalidChannelError(inspect(channel), `its name has ${bytes} bytes, at most ${MAX_CHANNEL_BYTES} are allowed`)
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(channel)) throw new InvalidChannelError(inspect(channel), 'control characters are not allowed in its name')
  return channel
}

/** Where instances send each other what to do; kept with history so that an instance that lost its link does it later. */
export const CONTROL_CHANNEL = '\u0000control'
/** The presence list in which every instance is a member. */
export const INSTANCES_CHANNEL = '\u0000instances'
const CONTROL_HISTORY: HistorySettings = { size: 1_000, ttl: 600_000 }

/** Which rules hold for a channel. */
export class ChannelNamespaces {
  readonly #rules: ReadonlyMap<string, ChannelRules>

  constructor (rules: ReadonlyMap<string, ChannelRules>) {
    this.#rules = rules
  }

  rules (channel: string): ChannelRules {
    return this.find(channel) ?? noRules
  }

  /** undefined for a namespace that the host did not name. */
  find (channel: string): ChannelRules | undefined {
    return this.#rules.get(namespaceOf(channel))
  }

  /** The channel's name with what the namespace leaves open; undefined for a namespace that the host did not name, of which there may be any number. */
  template (channel: string): string | undefined {
    const namespace = namespaceOf(channel)
    if (!this.#rules.has(namespace)) return undefined
    return namespace === '' ? '{channel}' : `${namespace}:{channel}`
  }

  history (channel: string): HistorySettings | undefined {
    return channel === CONTROL_CHANNEL ? CONTROL_HISTORY : this.rules(channel).history
  }
}
