import { inspect } from 'node:util'
import { namespaceOf } from '../../model/channel-rules.ts'
import type { ChannelRules } from '../../model/channel-rules.ts'
import { likelyMeant } from '../../model/spelling.ts'

/** What a namespace may keep of its channels. */
export type Kept = 'history' | 'presence'

/** What is told of a read that finds nothing, whatever was published and whoever is there. */
export interface UnkeptRead {
  readonly namespace: string
  /** The namespaces that the option `channels` has. */
  readonly namespaces: readonly string[]
  readonly text: string
}

/** Namespaces told of at most. An app may name any number of them, from what its clients send. */
const MAX_TOLD = 100

/** Finds reads of channels whose namespace keeps nothing: their answer looks like that of an empty channel. */
export class UnkeptReads {
  readonly #rules: ReadonlyMap<string, ChannelRules>
  readonly #told = new Set<string>()

  constructor (rules: ReadonlyMap<string, ChannelRules>) {
    this.#rules = rules
  }

  /** Returns what to tell, once for each namespace; undefined if the namespace keeps it. */
  find (kept: Kept, channel: string): UnkeptRead | undefined {
    const namespace = namespaceOf(channel)
    const rules = this.#rules.get(namespace)
    if (rules?.[kept]) return undefined
    const key = `${kept} ${namespace}`
    if (this.#told.has(key) || this.#told.size >= MAX_TOLD) return undefined
    this.#told.add(key)
    const namespaces = Array.from(this.#rules.keys())
    const text = `The ${kept} of channel ${inspect(channel)} is always empty: its namespace ${inspect(namespace)} ` +
      `${rules === undefined ? 'is not in the option channels' : `keeps no ${kept}`}. ${listed(namespaces)}${meant(namespace, namespaces, rules)} To keep it`
    return { namespace, namespaces, text }
  }
}

/** The namespace as a key of an object literal. */
export function asKey (namespace: string): string {
  return /^[a-z_$][\w$]*$/i.test(namespace) ? namespace : inspect(namespace)
}

function listed (namespaces: readonly string[]): string {
  return namespaces.length === 0 ? 'The option has no namespaces.' : `Known namespaces: ${namespaces.map(name => inspect(name)).join(', ')}.`
}

function meant (namespace: string, namespaces: readonly string[], rules: ChannelRules | undefined): string {
  const name = rules === undefined ? likelyMeant(namespace, namespaces) : undefined
  return name === undefined ? '' : ` Did you mean ${inspect(name)}?`
}
