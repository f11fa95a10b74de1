/** Who is in a channel: one entry per connection, so that a user with two tabs stays until both are gone. */
export interface Member {
  /** Id of the connection. */
  client: string
  /** '' for a client that did not authenticate. */
  user: string
  /** What `authenticate` or the connection's token gave as `info`. */
  info?: unknown
  /** What the subscription's token or `onSubscribe` gave as `info`. */
  channelInfo?: unknown
}

/** Of what has been parsed: whether it is a member. */
export function isMember (value: unknown): value is Member {
  return typeof value === 'object' && value !== null && 'client' in value && typeof value.client === 'string' && 'user' in value && typeof value.user === 'string'
}

/** ms that a member of a crashed instance stays visible at the most, counted from its last refresh. */
export const PRESENCE_TTL = 60_000

/** ms between two refreshes of the members of this instance. Two may fail before a living member vanishes. */
export const PRESENCE_REFRESH = 20_000

/**
 * Who is where, on all instances. An entry MUST vanish by itself `PRESENCE_TTL` after it was last added,
 * and MUST NOT be seen once `remove` has resolved.
 */
export interface Presence {
  /** Adds members, or refreshes those that are there. */
  add (channel: string, members: Member[]): Promise<void>
  remove (channel: string, client: string): Promise<void>
  list (channel: string): Promise<Member[]>
  /** Distinct connections and users. */
  stats (channel: string): Promise<{ clients: number, users: number }>
}

export function countMembers (members: Member[]): { clients: number, users: number } {
  return { clients: members.length, users: new Set(members.map(member => member.user)).size }
}
