import { isMember } from '../../model/presence.ts'
import { isTags } from '../../model/publication.ts'
import type { Publication } from '../../model/publication.ts'

/*
 * Format of a publication on Redis, in streams and in Pub/Sub messages: one header line, then the payload as it is.
 * Receivers send the bytes of the payload on without parsing them. Releases share Redis, so a new field goes into the
 * JSON at the end of the header, which older releases ignore.
 *
 *     j 1732412345678 4fQ7 12 {"tags":{"a":"b"}}\n{"text":"hello"}
 *
 * The header: kind, time, instance, sequence, and optionally JSON with tags, publisher, trace and except.
 * A Pub/Sub message begins with the position: offset, space, epoch, space. Without history that is `0`, space, space.
 */

const kindToMark = { text: 't', json: 'j', binary: 'b', join: '+', leave: '-' } as const
const markToKind = new Map(Object.entries(kindToMark).map(([kind, mark]) => [mark as string, kind as Publication['kind']]))
const NEWLINE = 0x0A
const CARRIAGE_RETURN = 0x0D
const SPACE = 0x20
/** Digits of a whole number that a double represents exactly. */
const COUNT = /^\d{1,15}$/
/** Follows the id of an instance whose publications Redis has counted. */
const COUNTED_BY_REDIS = '+'
/** Start of a Pub/Sub message without a position. */
export const NO_POSITION = '0  '

/**
 * Encodes a publication.
 * @param position Start of a Pub/Sub message: offset, space, epoch, space. '' for a stream entry.
 */
export function encodePublication (publication: Publication, sequence = publication.sequence, position = ''): Buffer {
  const { kind, payload, time, instance, tags, publisher, trace, except } = publication
  const plain = tags === undefined && publisher === undefined && trace === undefined && except === undefined
  const extra = plain ? '' : ` ${encodeExtra(publication)}`
  return Buffer.concat([Buffer.from(`${position}${kindToMark[kind]} ${time} ${instance} ${sequence}${extra}\n`), payload])
}

/**
 * Encodes a publication in two parts: a script puts the sequence between them. Redis counts these on its own, so their
 * instance is marked: receivers, older ones too, keep a sequence for each instance.
 */
export function encodeAroundSequence (publication: Publication): [before: Buffer, after: Buffer] {
  const instance = publication.instance + COUNTED_BY_REDIS
  const encoded = encodePublication({ ...publication, instance }, 0)
  const before = `${kindToMark[publication.kind]} ${publication.time} ${instance} `.length
  return [encoded.subarray(0, before), encoded.subarray(before + 1)]
}

/** Decodes a publication. Returns undefined for bytes in any other format, and never throws: Redis is not trusted. */
export function decodePublication (bytes: Buffer, offset: number, epoch: string): Publication | undefined {
  const end = bytes.indexOf(NEWLINE)
  if (end === -1) return undefined
  const header = bytes.toString('utf8', 0, end)
  const [mark = '', time = '', instance = '', sequence = ''] = header.split(' ', 4)
  const kind = markToKind.get(mark)
  if (kind === undefined || instance === '' || !COUNT.test(time) || !COUNT.test(sequence)) return undefined
  const payload = kind === 'text' || kind === 'binary' ? bytes.subarray(end + 1) : onOneLine(bytes.subarray(end + 1))
  if ((kind === 'join' || kind === 'leave') && !isMember(parse(payload.toString()))) return undefined
  const publication: Publication = { kind, payload, time: Number(time), instance, sequence: Number(sequence), offset, epoch }
  const extra = header.slice(mark.length + time.length + instance.length + sequence.length + 4)
  if (extra === '') return publication
  const more = checkExtra(parse(extra))
  return more && { ...publication, ...more }
}

/**
 * Line breaks end a message of JSON or an event, so they would begin messages of ours. JSON that we write has none, but
 * others can write to Redis, too. There they can only stand between values, where a space means the same.
 */
function onOneLine (json: Buffer): Buffer {
  if (!json.includes(NEWLINE) && !json.includes(CARRIAGE_RETURN)) return json
  return Buffer.from(json.map(byte => byte === NEWLINE || byte === CARRIAGE_RETURN ? SPACE : byte))
}

/** Encodes the header's JSON. Older releases reject it with neither tags nor publisher, so the rest gets empty tags. */
function encodeExtra ({ tags, publisher, trace, except }: Publication): string {
  return JSON.stringify({ tags: tags === undefined && publisher === undefined ? {} : tags, publisher, trace, except })
}

function checkExtra (extra: unknown): Pick<Publication, 'tags' | 'publisher' | 'trace' | 'except'> | undefined {
  if (typeof extra !== 'object' || extra === null) return undefined
  const { tags, publisher, trace, except } = extra as Record<string, unknown>
  if (tags === undefined && publisher === undefined) return undefined
  if (tags !== undefined && !isTags(tags)) return undefined
  if (publisher !== undefined && !isMember(publisher)) return undefined
  const rest = { ...(typeof trace === 'string' && { trace }), ...(typeof except === 'string' && { except }) }
  const filler = Object.keys(rest).length > 0 && tags !== undefined && Object.keys(tags).length === 0
  return { ...(tags && !filler && { tags }), ...(publisher && { publisher }), ...rest }
}

/** Returns undefined for invalid JSON. */
function parse (json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}
