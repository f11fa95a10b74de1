import { createHash } from 'node:crypto'
import type { Position } from '../../model/publication.ts'

// An EventSource keeps one id, the last, and sends it when it comes back. So each id holds the positions of all
// channels of its connection: `1~NAME.EPOCH.OFFSET~…`. NAME is a hash of the channel's name, because the names
// themselves might not fit into a header, and the offset is in base 36.

/** Names the format. A release that reads no other has to call an id of a later one unknown. */
const VERSION = '1'
/** Characters of a hash. Should two channels share one, their epochs differ: the client is told of a gap. */
const HASH_LENGTH = 8
/** Characters of an id. A header has less than that: a server that accepts more would only be kept busy. */
const MAX_LENGTH = 8_192
const SEGMENT = /^([\w-]{8})\.([^.~]+)\.([0-9a-z]{1,11})$/
/** The position in an id that cannot be read: no channel has such an epoch, so clients are told of a gap. */
const UNKNOWN: Position = { offset: 0, epoch: '?' }

/** The id of an event after which a client must not come back. `EventSource` stops when it is answered with 204. */
export const FINAL_ID = 'end'

/** The part of an id that holds the position in one channel. */
export function segmentOf (channel: string, { offset, epoch }: Position): string {
  const escaped = encodeURIComponent(epoch).replaceAll('.', '%2E').replaceAll('~', '%7E')
  return `${hashOf(channel)}.${escaped}.${offset.toString(36)}`
}

/** The line of an event that sets the id. */
export function idLine (segments: Iterable<string>): string {
  return `id: ${[VERSION, ...segments].join('~')}\n`
}

/** The positions that a client brings back. */
export interface ReturningPositions {
  /** undefined: the client has none in this channel. */
  of (channel: string): Position | undefined
}

/** Reads what a client has sent as its last id. An id that makes no sense is an unknown position in every channel. */
export function readId (id: string | undefined): ReturningPositions {
  if (id === undefined || id === '') return { of: () => undefined }
  const positions = id.length <= MAX_LENGTH ? parse(id) : undefined
  if (positions === undefined) return { of: () => UNKNOWN }
  return { of: channel => positions.size === 0 ? undefined : positions.get(hashOf(channel)) }
}

function parse (id: string): Map<string, Position> | undefined {
  const [version, ...segments] = id.split('~')
  if (version !== VERSION) return undefined
  const positions = new Map<string, Position>()
  for (const segment of segments) {
    const [, hash, escaped, digits] = SEGMENT.exec(segment) ?? []
    if (hash === undefined) return undefined
    const offset = Number.parseInt(digits!, 36)
    const epoch = unescaped(escaped!)
    if (!Number.isSafeInteger(offset) || epoch === undefined) return undefined
    positions.set(hash, { offset, epoch })
  }
  return positions
}

function unescaped (text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

function hashOf (channel: string): string {
  return createHash('sha256').update(channel).digest('base64url').slice(0, HASH_LENGTH)
}
