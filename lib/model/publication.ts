import { randomBytes } from 'node:crypto'
import { InvalidDataError } from './errors.ts'
import { isMember } from './presence.ts'
import type { Member } from './presence.ts'

/** How `payload` is to be read: text is sent as it is, JSON is the text of a value, binary are bytes. */
export type PayloadKind = 'text' | 'json' | 'binary'

/** Data in the form in which it travels: encoded once, by whoever brings it. */
export interface Payload {
  readonly kind: PayloadKind
  readonly payload: Buffer
}

/**
 * One publication as it travels between instances: the payload is encoded once, by the publisher,
 * and only decoded again where host code asks for it.
 */
export interface Publication {
  /** A join or a leave has the member as its payload, in JSON. */
  readonly kind: PayloadKind | 'join' | 'leave'
  readonly payload: Buffer
  /** Unix time of the publish call, in ms, by the publisher's clock. */
  readonly time: number
  /** Id of the instance that published it. */
  readonly instance: string
  /**
   * Counts up by one per channel and publishing instance; 0 where it is not counted: in channels with history, where the offset does
   * that work, for joins and leaves, and with an idempotencyKey, where nobody but Redis knows in time whether it goes out.
   */
  readonly sequence: number
  readonly tags?: Record<string, string>
  /** Who published it, if it was an SDK client. */
  readonly publisher?: Member
  /** The W3C traceparent of the span that sent it, if that is sampled. */
  readonly trace?: string
  /** Position in the channel's stream; 0 without history. The first publication of an epoch is 1. */
  offset: number
  epoch: string
}

/** A place in a channel's history: publications are numbered by `offset` within an `epoch`. */
export interface Position {
  offset: number
  epoch: string
}

/** A publication before it has a position. */
export function newPublication (instance: string, { kind, payload }: Pick<Publication, 'kind' | 'payload'>): Publication {
  return { kind, payload, time: Date.now(), instance, sequence: 0, offset: 0, epoch: '' }
}

/** Random, so that positions of a history that was lost are never taken for positions of the one that replaced it. */
export function newEpoch (): string {
  return randomBytes(6).toString('base64url')
}

const kindToMark = { text: 't', json: 'j', binary: 'b', join: '+', leave: '-' } as const
const markToKind = new Map(Object.entries(kindToMark).map(([kind, mark]) => [mark as string, kind as Publication['kind']]))
const NEWLINE = 10

/** Encodes what the host handed us. @throws FST_CRWS_INVALID_DATA for what JSON can not carry. */
export function encodePayload (data: unknown): Payload {
  if (typeof data === 'string') return { kind: 'text', payload: Buffer.from(data) }
  if (Buffer.isBuffer(data)) return { kind: 'binary', payload: data }
  if (data instanceof Uint8Array) return { kind: 'binary', payload: Buffer.from(data.buffer, data.byteOffset, data.byteLength) }
  let json: string | undefined
  try {
    json = JSON.stringify(data)
  } catch (error) {
    throw new InvalidDataError(error instanceof Error ? error.message : String(error))
  }
  if (json === undefined) throw new InvalidDataError(`${typeof data} is not JSON`)
  return { kind: 'json', payload: Buffer.from(json) }
}

export function decodePayload (publication: Pick<Publication, 'kind' | 'payload'>): unknown {
  if (publication.kind === 'binary') return publication.payload
  const text = publication.payload.toString()
  return publication.kind === 'text' ? text : JSON.parse(text)
}

/**
 * The form on Redis: one line of header, then the payload untouched, so that a receiver sends the payload's bytes on without parsing them.
 *
 *     j 1732412345678 4fQ7 12 {"tags":{"a":"b"}}\n{"text":"hello"}
 */
export function encodePublication (publication: Publication): Buffer {
  const { kind, payload, time, instance, sequence, tags, publisher, trace } = publication
  const extra = tags === undefined && publisher === undefined && trace === undefined ? '' : ` ${encodeExtra(publication)}`
  const header = Buffer.from(`${kindToMark[kind]} ${time} ${instance} ${sequence}${extra}\n`)
  return Buffer.concat([header, payload])
}

/** Bytes from Redis are not trusted: whatever is not in our form gives undefined, never a throw. */
export function decodePublication (bytes: Buffer, offset: number, epoch: string): Publication | undefined {
  const end = bytes.indexOf(NEWLINE)
  if (end === -1) return undefined
  const header = bytes.toString('utf8', 0, end)
  const [mark = '', time = '', instance = '', sequence = ''] = header.split(' ', 4)
  const kind = markToKind.get(mark)
  if (kind === undefined || instance === '' || !isCount(time) || !isCount(sequence)) return undefined
  const payload = bytes.subarray(end + 1)
  if ((kind === 'join' || kind === 'leave') && !isMember(parse(payload.toString()))) return undefined
  const publication: Publication = { kind, payload, time: Number(time), instance, sequence: Number(sequence), offset, epoch }
  const extra = header.slice(mark.length + time.length + instance.length + sequence.length + 4)
  if (extra === '') return publication
  const more = checkExtra(parse(extra))
  return more && { ...publication, ...more }
}

/** Instances of before there were traces take none for our form that has neither tags nor publisher. */
function encodeExtra ({ tags, publisher, trace }: Publication): string {
  return JSON.stringify({ tags: trace !== undefined && tags === undefined && publisher === undefined ? {} : tags, publisher, trace })
}

function isCount (text: string): boolean {
  return text !== '' && Number.isSafeInteger(Number(text)) && Number(text) >= 0
}

/** What all protocols and languages can carry. */
export function isTags (tags: unknown): tags is Record<string, string> {
  return typeof tags === 'object' && tags !== null && !Array.isArray(tags) && Object.values(tags).every(tag => typeof tag === 'string')
}

function checkExtra (extra: unknown): Pick<Publication, 'tags' | 'publisher' | 'trace'> | undefined {
  if (typeof extra !== 'object' || extra === null) return undefined
  const { tags, publisher, trace } = extra as Record<string, unknown>
  if (tags === undefined && publisher === undefined) return undefined
  if (tags !== undefined && !isTags(tags)) return undefined
  if (publisher !== undefined && !isMember(publisher)) return undefined
  if (typeof trace !== 'string') return { ...(tags && { tags }), ...(publisher && { publisher }) }
  return { ...(tags && Object.keys(tags).length > 0 && { tags }), ...(publisher && { publisher }), trace }
}

/** undefined for what is not JSON. */
function parse (json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined // not our form; the caller counts it
  }
}
