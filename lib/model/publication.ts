import { randomBytes } from 'node:crypto'
import { InvalidDataError } from './errors.ts'
import type { Member } from './presence.ts'

/** How `payload` is decoded: 'text' to a string, 'json' to a value, 'binary' to a Buffer. */
export type PayloadKind = 'text' | 'json' | 'binary'

/** Encoded data. It is encoded once, when the app or a client hands it in, and sent as it is. */
export interface Payload {
  readonly kind: PayloadKind
  readonly payload: Buffer
}

/** One publication as it travels between instances. The payload is decoded only for your app. */
export interface Publication {
  /** How `payload` is decoded. That of a join or a leave is the JSON of the member. */
  readonly kind: PayloadKind | 'join' | 'leave'
  readonly payload: Buffer
  /** Unix time of the publish call in milliseconds, by the clock of the publishing instance. */
  readonly time: number
  /** Id of the instance that published it. */
  readonly instance: string
  /**
   * Counts up by one per channel and publishing instance, so that receivers notice a gap. After 7 and 8 of one
   * instance, its 11 means that Pub/Sub lost two publications.
   *
   * 0: not counted. That is so in channels with history, where the offset shows a gap, and for joins and leaves. With
   * an `idempotencyKey` Redis counts, for the instance's id with a `+`: only Redis decides whether it is sent.
   */
  readonly sequence: number
  readonly tags?: Record<string, string>
  /** The SDK client that published it; undefined if the app did. */
  readonly publisher?: Member
  /** Id of the connection that does not get it. */
  readonly except?: string
  /** W3C traceparent of the span that sent it, if the span is sampled. */
  readonly trace?: string
  /** Offset in the channel's history; 0 without history. See `Position`. */
  offset: number
  /** Epoch of the channel's history; '' without history. */
  epoch: string
}

/**
 * A position in a channel's history. Say a stream holds publications 1, 2 and 3, Redis loses it, and a new stream gets
 * 1 to 4. A client that was at 3 would receive 4 and never notice that it missed the new 1, 2 and 3. So every stream
 * has an epoch of its own.
 */
export interface Position {
  /** Counts up by one per publication; the first one of an epoch is 1. 0: before the first. */
  offset: number
  /** Random string that names the stream. A position of another epoch cannot be recovered from. */
  epoch: string
}

/** True for a position as the history and `publish` return it. An empty epoch matches any. */
export function isPosition (value: unknown): value is Position {
  const { offset, epoch } = (value ?? {}) as Partial<Position>
  return Number.isSafeInteger(offset) && offset! >= 0 && typeof epoch === 'string'
}

/** Creates a publication without a position. */
export function newPublication (instance: string, { kind, payload }: Pick<Publication, 'kind' | 'payload'>): Publication {
  return { kind, payload, time: Date.now(), instance, sequence: 0, offset: 0, epoch: '' }
}

/** Returns a new epoch. It is random, so that positions of a lost history never match the history that replaced it. */
export function newEpoch (): string {
  return randomBytes(6).toString('base64url')
}

/**
 * Encodes data that the app publishes or sends.
 * @throws FST_CRWS_INVALID_DATA if JSON cannot carry it.
 */
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

/** Decodes the data of a publication. A join or a leave gives the member. */
export function decodePayload (publication: Pick<Publication, 'kind' | 'payload'>): unknown {
  if (publication.kind === 'binary') return publication.payload
  const text = publication.payload.toString()
  return publication.kind === 'text' ? text : JSON.parse(text)
}

/** True for an object of strings, which is what all protocols and languages can carry as tags. */
export function isTags (tags: unknown): tags is Record<string, string> {
  return typeof tags === 'object' && tags !== null && !Array.isArray(tags) && Object.values(tags).every(tag => typeof tag === 'string')
}
