import { checkChannel } from '../model/channel-rules.ts'
import type { Member, Presence } from '../model/presence.ts'
import type { Observer } from '../observability/observer.ts'
import { guarded } from './guard.ts'

/** Who is in a channel. */
export interface PresenceCalls {
  /**
   * Lists the members of a channel on all instances: one entry per connection. It is empty, and a hint says so in the
   * log, if the namespace keeps no presence. Members of an instance that crashed are listed for up to 60 s more.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  presence (channel: string): Promise<Member[]>
  /**
   * Counts the members of a channel on all instances: `clients` are connections, `users` are distinct users. Clients
   * without a user count as one user, ''.
   * @throws as `presence`
   */
  presenceStats (channel: string): Promise<{ clients: number, users: number }>
}

export function presenceCalls (presence: Presence, observer: Observer): PresenceCalls {
  return {
    presence: guarded(observer, 'presence', channel => {
      observer.readsKept('presence', checkChannel(channel))
      return presence.list(channel)
    }),
    presenceStats: guarded(observer, 'presenceStats', channel => {
      observer.readsKept('presence', checkChannel(channel))
      return presence.stats(channel)
    })
  }
}
