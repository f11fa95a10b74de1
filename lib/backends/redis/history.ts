import { POSITION_TTL, UNPUBLISHED_TTL } from '../../model/broker.ts'
import type { History, HistoryQuery } from '../../model/broker.ts'
import { newEpoch } from '../../model/publication.ts'
import type { Position } from '../../model/publication.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import type { KnownPositions } from './known-positions.ts'
import { runScript } from './script-runner.ts'
import { readHistory } from './scripts.ts'
import { decodePublication } from './wire-format.ts'

export type ReadHistory = History & {
  /** Offset after which the epoch began. Publications up to there are of an earlier one. */
  readonly base: number
  /** True if as many entries were read as were asked for: there may be more. */
  readonly full: boolean
}

/** Reads channel histories from Redis. */
export class RedisHistory {
  readonly #commands: RedisCommands
  readonly #keys: RedisKeys
  readonly #known: KnownPositions

  constructor (commands: RedisCommands, keys: RedisKeys, known: KnownPositions) {
    this.#commands = commands
    this.#keys = keys
    this.#known = known
  }

  /** Reads a channel's position and publications. Starts an epoch if there is none; does not check that of `since`. */
  async read (channel: string, query: HistoryQuery, known = this.#known.of(channel)): Promise<ReadHistory> {
    const { limit, maxBytes = 0 } = query
    const reply = await runScript(this.#commands, readHistory, [this.#keys.stream(channel), this.#keys.position(channel)], [
      newEpoch(), known?.epoch ?? '', String(known?.offset ?? 0), String(POSITION_TTL), String(UNPUBLISHED_TTL),
      ...rangeOf(query), String(limit), String(maxBytes)
    ], true)
    const [offset, epochBytes, entries, base] = reply as [number, Buffer, [id: Buffer, fields: [Buffer, Buffer]][], number]
    const epoch = epochBytes.toString()
    const publications = entries.map(([id, [, bytes]]) => decodePublication(bytes, Number.parseInt(id.toString()), epoch))
      .filter(publication => publication !== undefined)
    return { publications, offset, epoch, base, full: entries.length === limit }
  }

  /** Begins an epoch unless it was begun since: what was published is not what was delivered. */
  async renew (channel: string, { epoch }: Position): Promise<void> {
    await this.read(channel, { limit: 0 }, { epoch, offset: Number.MAX_SAFE_INTEGER })
  }
}

/** The command that reads, and its first and last id. */
function rangeOf ({ since, reverse, until = 0 }: HistoryQuery): [command: string, from: string, to: string] {
  if (!reverse) return ['XRANGE', since === undefined ? '-' : String(since.offset + 1), '+']
  return ['XREVRANGE', since === undefined ? '+' : String(Math.max(0, since.offset - 1)), String(until + 1)]
}
