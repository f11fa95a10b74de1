import { POSITION_TTL } from '../../model/broker.ts'
import type { History, HistoryQuery } from '../../model/broker.ts'
import { newEpoch } from '../../model/publication.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import { runScript } from './script-runner.ts'
import { readHistory } from './scripts.ts'
import { decodePublication } from './wire-format.ts'

export type ReadHistory = History & {
  /** True if as many entries were read as were asked for: there may be more. */
  readonly full: boolean
}

/** Reads channel histories from Redis. */
export class RedisHistory {
  readonly #commands: RedisCommands
  readonly #keys: RedisKeys

  constructor (commands: RedisCommands, keys: RedisKeys) {
    this.#commands = commands
    this.#keys = keys
  }

  /** Reads a channel's position and publications. Starts an epoch if there is none; does not check that of `since`. */
  async read (channel: string, { limit, since, reverse }: HistoryQuery): Promise<ReadHistory> {
    const [from, to] = reverse
      ? [since === undefined ? '+' : String(Math.max(0, since.offset - 1)), '-']
      : [since === undefined ? '-' : String(since.offset + 1), '+']
    const reply = await runScript(this.#commands, readHistory, [this.#keys.stream(channel), this.#keys.position(channel)],
      [newEpoch(), String(POSITION_TTL), String(limit), reverse ? '1' : '0', from, to], true)
    const [offset, epochBytes, entries] = reply as [number, Buffer, [id: Buffer, fields: [Buffer, Buffer]][]]
    const epoch = epochBytes.toString()
    const publications = entries.map(([id, [, bytes]]) => decodePublication(bytes, Number.parseInt(id.toString()), epoch))
    return { publications: publications.filter(publication => publication !== undefined), offset, epoch, full: entries.length === limit }
  }
}
