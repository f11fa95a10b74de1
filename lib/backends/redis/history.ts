import { POSITION_TTL, UNPUBLISHED_TTL } from '../../model/broker.ts'
import type { History, HistoryQuery } from '../../model/broker.ts'
import { newEpoch } from '../../model/publication.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import type { KnownPositions } from './known-positions.ts'
import { runScript } from './script-runner.ts'
import { readHistory } from './scripts.ts'
import { decodePublication } from './wire-format.ts'

export type ReadHistory = History & {
  /** Offset after which the epoch began. Publications up to there are of an earlier one. */
  readonly base: number
  /** The epoch that it continues; '' if it began with nothing. */
  readonly previous: string
  /** True if as many entries were read as were asked for: there may be more. */
  readonly full: boolean
}

type Entry = [id: Buffer, fields: [name: Buffer, publication: Buffer]]

/** Reads channel histories from Redis. */
export class RedisHistory {
  readonly #commands: RedisCommands
  readonly #keys: RedisKeys
  readonly #known: KnownPositions
  readonly #lost: (channel: string, count: number) => void

  /** @param lost Called where a read finds out that Redis has lost publications. */
  constructor (commands: RedisCommands, keys: RedisKeys, known: KnownPositions, lost: (channel: string, count: number) => void) {
    this.#commands = commands
    this.#keys = keys
    this.#known = known
    this.#lost = lost
  }

  /** Reads a channel's position and publications. Starts an epoch if there is none; does not check that of `since`. */
  async read (channel: string, query: HistoryQuery): Promise<ReadHistory> {
    const { limit, maxBytes = 0 } = query
    const reply = await runScript(this.#commands, readHistory, [this.#keys.stream(channel), this.#keys.position(channel)], [
      String(POSITION_TTL), String(UNPUBLISHED_TTL), ...rangeOf(query), String(limit), String(maxBytes), newEpoch(),
      ...this.#known.argumentsOf(channel)
    ], true)
    const [offset, epochBytes, entries, base, previous, lost] = reply as [number, Buffer, Entry[], number, Buffer, number]
    this.#lost(channel, lost)
    const epoch = epochBytes.toString()
    const publications = entries.map(([id, [, bytes]]) => decodePublication(bytes, Number.parseInt(id.toString()), epoch))
      .filter(publication => publication !== undefined)
    return { publications, offset, epoch, base, previous: previous.toString(), full: entries.length === limit }
  }
}

/** The command that reads, and its first and last id. */
function rangeOf ({ since, reverse, until = 0 }: HistoryQuery): [command: string, from: string, to: string] {
  if (!reverse) return ['XRANGE', since === undefined ? '-' : String(since.offset + 1), '+']
  return ['XREVRANGE', since === undefined ? '+' : String(Math.max(0, since.offset - 1)), String(until + 1)]
}
