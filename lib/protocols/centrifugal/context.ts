import type { Connections } from '../../core/connections.ts'
import type { Methods } from '../../core/methods.ts'
import type { Permissions } from '../../core/permissions.ts'
import type { Publisher } from '../../core/publisher.ts'
import type { Subscriptions } from '../../core/subscriptions.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Presence } from '../../model/presence.ts'
import type { Observer } from '../../observability/observer.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'
import type { SharedCalls } from '../../util/shared-calls.ts'
import type { Deltas } from './delta.ts'
import type { Tokens } from './tokens.ts'

/** The parts of this instance that the commands of SDK clients act on. One object serves all connections. */
export interface Context {
  /** Id of this instance. */
  readonly instance: string
  readonly options: ResolvedOptions
  readonly namespaces: ChannelNamespaces
  readonly connections: Connections
  readonly subscriptions: Subscriptions
  readonly methods: Methods
  readonly permissions: Permissions
  readonly publisher: Publisher
  readonly presence: Presence
  /** Reads on behalf of clients, by channel. */
  readonly reads: SharedCalls
  readonly observer: Observer
  /** undefined: the app takes no tokens. */
  readonly tokens: Tokens | undefined
  /** undefined: no namespace has `delta`. */
  readonly deltas: Deltas | undefined
}
