import { runScript } from './script-runner.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import { setSession } from './scripts.ts'
import type { SessionStore } from '../../model/sessions.ts'

/** Sessions of all instances: one hash per user. */
export class RedisSessions implements SessionStore {
  readonly #commands: RedisCommands
  readonly #keys: RedisKeys

  constructor (commands: RedisCommands, keys: RedisKeys) {
    this.#commands = commands
    this.#keys = keys
  }

  async get (user: string): Promise<Map<string, string>> {
    const key = this.#keys.session(user)
    return await this.#commands.send(key, ['HGETALL', key]) as Map<string, string>
  }

  async set (user: string, fields: Map<string, string | undefined>, ttl: number): Promise<void> {
    const given = Array.from(fields).filter((field): field is [string, string] => field[1] !== undefined)
    const removed = Array.from(fields.keys()).filter(name => fields.get(name) === undefined)
    const args = [String(ttl), String(given.length), ...given.flat(), ...removed]
    await runScript(this.#commands, setSession, [this.#keys.session(user)], args)
  }

  async delete (user: string): Promise<void> {
    const key = this.#keys.session(user)
    await this.#commands.send(key, ['DEL', key])
  }
}
