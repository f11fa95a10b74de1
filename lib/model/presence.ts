import type { Info } from './realtime-types.ts'

/** One connection in a channel. A user with two tabs is two members, and stays present until both are closed. */
export interface Member {
  /** Id of the connection. */
  client: string
  /** '' for a client that did not authenticate. */
  user: string
  /** `info` that `authenticate` returned, or that the connection's token carried. */
  info?: Info
  /** `info` that `onSubscribe` returned, or that the subscription's token carried. */
  channelInfo?: unknown
}

/** True if a parsed value is a member. */
export function isMember (value: unknown): value is Member {
  return typeof value === 'object' && value !== null &&
    'client' in value && typeof value.client === 'string' &&
    'user' in value && typeof value.user === 'string'
}

/** Milliseconds without a refresh after which a member expires, as it does when its instance has crashed. */
export const PRESENCE_TTL = 60_000

/** Milliseconds between two refreshes of this instance's members. Two in a row may fail before a member expires. */
export const PRESENCE_REFRESH = 20_000

/** Members of channels, on all instances. */
export interface Presence {
  /** Adds members, or refreshes them. A member MUST expire by itself `PRESENCE_TTL` after it was last added. */
  add (channel: string, members: Member[]): Promise<void>
  /** Removes a member. Once this has resolved, `list` and `stats` MUST NOT include it. */
  remove (channel: string, client: string): Promise<void>
  list (channel: string): Promise<Member[]>
  /** Counts connections and distinct users. */
  stats (channel: string): Promise<{ clients: number, users: number }>
}

/** Counts members and distinct users. */
export function countMembers (members: Member[]): { clients: number, users: number } {
  return { clients: members.length, users: new Set(members.map(member => member.user)).size }
}
