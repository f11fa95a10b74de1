import { PRESENCE_TTL } from '../../model/presence.ts'
import type { Member, Presence } from '../../model/presence.ts'
import { runScript } from './script-runner.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import { addMembers, countMembers, listMembers, removeMember } from './scripts.ts'

/** Members per script call. Redis handles no other command while a script runs. */
const BATCH = 500

/** Presence of all instances: keys per channel, so that each member expires on its own. */
export class RedisPresence implements Presence {
  readonly #commands: RedisCommands
  readonly #keys: RedisKeys

  constructor (commands: RedisCommands, keys: RedisKeys) {
    this.#commands = commands
    this.#keys = keys
  }

  async add (channel: string, members: Member[]): Promise<void> {
    const batches: Promise<unknown>[] = []
    for (let i = 0; i < members.length; i += BATCH) {
      const batch = members.slice(i, i + BATCH).flatMap(member => [member.client, JSON.stringify(member)])
      batches.push(runScript(this.#commands, addMembers, this.#keysOf(channel), [String(PRESENCE_TTL), ...batch]))
    }
    // All batches are sent in this turn, so that a `remove` called later runs after the last of them.
    await Promise.all(batches)
  }

  async remove (channel: string, client: string): Promise<void> {
    await runScript(this.#commands, removeMember, this.#keysOf(channel), [client])
  }

  async list (channel: string): Promise<Member[]> {
    const members = await runScript(this.#commands, listMembers, this.#keysOf(channel), [])
    return (members as string[]).map(json => JSON.parse(json))
  }

  async stats (channel: string): Promise<{ clients: number, users: number }> {
    const counts = await runScript(this.#commands, countMembers, this.#keysOf(channel), [String(PRESENCE_TTL)])
    const [clients, users] = counts as [number, number]
    return { clients, users }
  }

  #keysOf (channel: string): [string, string, string] {
    return [this.#keys.members(channel), this.#keys.membersUntil(channel), this.#keys.membersUsers(channel)]
  }
}
