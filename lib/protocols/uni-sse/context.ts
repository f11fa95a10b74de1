import type { ClientSubscribes } from '../../core/client-subscribe.ts'
import type { Connections } from '../../core/connections.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'

/** The parts of this instance that clients which only listen act on. One object serves all connections. */
export interface UniSseContext extends ClientSubscribes {
  readonly options: ResolvedOptions
  readonly connections: Connections
}
