import { countMembers, PRESENCE_TTL } from '../../model/presence.ts'
import type { Member, Presence } from '../../model/presence.ts'

interface Entry {
  readonly member: Member
  /** Unix time in milliseconds at which the entry expires. */
  readonly until: number
}

/** Presence of a single instance. Entries expire as they do on Redis, so both behave alike when a refresh is missed. */
export class MemoryPresence implements Presence {
  readonly #channels = new Map<string, Map<string, Entry>>()

  async add (channel: string, members: Member[]): Promise<void> {
    let entries = this.#channels.get(channel)
    if (entries === undefined) this.#channels.set(channel, entries = new Map())
    for (const member of members) entries.set(member.client, { member, until: Date.now() + PRESENCE_TTL })
  }

  async remove (channel: string, client: string): Promise<void> {
    const entries = this.#channels.get(channel)
    entries?.delete(client)
    if (entries?.size === 0) this.#channels.delete(channel)
  }

  async list (channel: string): Promise<Member[]> {
    const now = Date.now()
    return Array.from(this.#channels.get(channel)?.values() ?? []).filter(({ until }) => until > now).map(({ member }) => member)
  }

  async stats (channel: string): Promise<{ clients: number, users: number }> {
    return countMembers(await this.list(channel))
  }
}
