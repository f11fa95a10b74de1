import type { Backend } from '../backends/backend.ts'
import type { Connection } from '../model/connection.ts'
import type { Observer } from '../observability/observer.ts'
import { controlCalls } from './control-calls.ts'
import type { ControlCalls } from './control-calls.ts'
import type { Core } from './core.ts'
import { directoryCalls } from './directory.ts'
import type { DirectoryCalls } from './directory.ts'
import { guarded } from './guard.ts'
import type { InstanceInfo } from './instance-registry.ts'
import { listenCalls } from './listeners.ts'
import type { ListenCalls } from './listeners.ts'
import { presenceCalls } from './presence-calls.ts'
import type { PresenceCalls } from './presence-calls.ts'
import { publishCalls } from './publish-calls.ts'
import type { PublishCalls } from './publish-calls.ts'
import { sessionCalls } from './session-calls.ts'
import type { Sessions } from './session-calls.ts'
import { streamCalls } from './streams.ts'
import type { StreamCalls } from './streams.ts'

/** `app.realtime`: channels, users and connections, on all instances. */
export interface Realtime extends PublishCalls, PresenceCalls, ControlCalls, ListenCalls, StreamCalls, DirectoryCalls {
  /** The connections of this instance. */
  readonly connections: Iterable<Connection>
  /** State of a user that every instance sees. */
  readonly sessions: Sessions
  /**
   * Lists all instances. Figures of the others are up to five seconds old, and an instance that crashed is listed for
   * up to 60 s.
   * @throws FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  info (): Promise<InstanceInfo[]>
}

/** Puts the calls of `app.realtime` together from the parts that carry them out. */
export function createRealtime (
  { hub, publisher, connections, listeners, streams, registry, control, survey }: Core, { presence, sessions }: Backend, observer: Observer
): Realtime {
  return {
    connections: { [Symbol.iterator]: () => connections[Symbol.iterator]() },
    sessions: sessionCalls(sessions, observer),
    ...publishCalls(publisher, observer),
    ...presenceCalls(presence, observer),
    ...controlCalls(control, observer),
    ...listenCalls(listeners, observer),
    ...streamCalls(streams, observer),
    ...directoryCalls(connections, hub, survey, observer),
    info: guarded(observer, 'info', () => registry.list())
  }
}
