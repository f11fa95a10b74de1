import type { Instance } from '../../core/connections.ts'
import type { Publisher } from '../../core/publisher.ts'
import type { ChannelNamespaces, ChannelRules } from '../../model/channel-rules.ts'
import type { Presence } from '../../model/presence.ts'
import type { ResolvedOptions } from '../../options/options.ts'
import { clientErrors, ReplyError } from './errors.ts'
import type { Tokens } from './tokens.ts'

/** The parts of this instance that commands of SDK clients act on. One object serves all connections. */
export class Context {
  readonly instance: Instance
  readonly publisher: Publisher
  readonly presence: Presence
  /** undefined: the app takes no tokens. */
  readonly tokens: Tokens | undefined
  readonly options: ResolvedOptions
  readonly #namespaces: ChannelNamespaces

  constructor (instance: Instance, namespaces: ChannelNamespaces, publisher: Publisher, presence: Presence, tokens: Tokens | undefined) {
    this.instance = instance
    this.publisher = publisher
    this.presence = presence
    this.tokens = tokens
    this.options = instance.options
    this.#namespaces = namespaces
  }

  rules (channel: string): ChannelRules {
    return this.#namespaces.rules(channel)
  }

  /** @throws ReplyError (102) for a namespace that is not in the option `channels`. */
  knownRules (channel: string): ChannelRules {
    const rules = this.#namespaces.find(channel)
    if (rules === undefined) throw new ReplyError(clientErrors.unknownChannel)
    return rules
  }
}
